"use client";

import Link from "next/link";
import { useRouter } from "next/navigation";
import { useCallback, useEffect, useState } from "react";

import { useDeleteAgent, useDiff, useDiscardDraft, useDuplicateAgent, useVersions, type TaggedDraft } from "@/api/queries/agents";
import type { Agent } from "@/api/types";
import { errorText, ErrorState } from "@/components/error-state";
import { Frame } from "@/components/shell/frame";
import { Avatar } from "@/components/ui/avatar";
import { Badge, StateMark } from "@/components/ui/badge";
import { Button, IconButton } from "@/components/ui/button";
import { ConfirmDialog } from "@/components/ui/dialog";
import { IconChat, IconCopy, IconDelete, IconDone, IconDownload, IconMore } from "@/components/ui/icon";
import { Menu, MenuItem, MenuSeparator } from "@/components/ui/menu";
import { Tabs } from "@/components/ui/tabs";
import { Term, Terms } from "@/components/ui/terms";
import { toast } from "@/components/ui/toast";
import { YamlEditor } from "@/components/yaml-editor";
import { newChatUrl } from "@/lib/chat-url";
import { strings } from "@/lib/strings";
import { useLeaveGuard } from "@/lib/use-leave-guard";
import { useSearchState } from "@/lib/use-search-state";
import { DiffCounts } from "./diff";
import { ConflictDialog, PublishDialog } from "./dialogs";
import { AgentForm } from "./form";
import { Rules } from "./rules";
import { useEditor, type Editor } from "./use-editor";
import { downloadYaml, Versions } from "./versions";

const t = strings.agent;
const crumbs = [{ href: "/agents", label: strings.agents.title }];
type TabName = "form" | "yaml" | "versions" | "rules";
type Open = "publish" | "discard" | "delete" | undefined;

/** Which fields hold something that is no value; nothing is saved while there is one. */
function useInvalid(): [boolean, (field: string, valid: boolean) => void] {
  const [invalid, setInvalid] = useState<readonly string[]>([]);
  const report = useCallback((field: string, valid: boolean) => {
    setInvalid((now) => {
      if (valid) return now.includes(field) ? now.filter((one) => one !== field) : now;
      return now.includes(field) ? now : [...now, field];
    });
  }, []);
  return [invalid.length > 0, report];
}

function AgentMenu({ agent, onDelete }: { agent: Agent; onDelete: () => void }) {
  const router = useRouter();
  const duplicate = useDuplicateAgent();
  const copy = () =>
    duplicate.mutate(
      { id: agent.agent_id },
      {
        onSuccess: (made) => {
          toast({ text: t.duplicated(made.name) });
          router.push(`/agents/${made.agent_id}`);
        },
        onError: (error) => toast({ text: errorText(error), tone: "bad" }),
      },
    );
  return (
    <Menu
      trigger={
        <IconButton size="s" label={strings.common.more}>
          <IconMore className="ic-s" aria-hidden="true" />
        </IconButton>
      }
    >
      <MenuItem icon={<IconCopy className="ic-s" aria-hidden="true" />} onSelect={copy}>
        {t.duplicate}
      </MenuItem>
      <MenuItem icon={<IconDownload className="ic-s" aria-hidden="true" />} onSelect={() => void downloadYaml(agent)}>
        {t.export}
      </MenuItem>
      <MenuSeparator />
      <MenuItem icon={<IconDelete className="ic-s" aria-hidden="true" />} tone="bad" onSelect={onDelete}>
        {t.delete}
      </MenuItem>
    </Menu>
  );
}

function YamlTab({ editor }: { editor: Editor }) {
  const { yamlBehind, showYaml } = editor;
  const [failure, setFailure] = useState<unknown>();
  useEffect(() => {
    if (yamlBehind) void showYaml().then(() => setFailure(undefined), setFailure);
    // Once when the tab opens: from then on the text leads.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [yamlBehind]);
  return (
    <div className="col min-h-0 flex-1 gap-2 pt-4">
      {failure ? <ErrorState error={failure} /> : null}
      <YamlEditor value={editor.yaml} onChange={editor.changeYaml} errors={editor.errors} minRows={20} />
      <div role="status" className="h-5">
        {editor.check?.state === "checking" ? (
          <StateMark>{t.yamlChecking}</StateMark>
        ) : editor.check?.state === "known" && editor.errors.length === 0 ? (
          <StateMark tone="live" icon={<IconDone className="ic-s" aria-hidden="true" />}>
            {t.yamlFine}
          </StateMark>
        ) : null}
      </div>
      {editor.check?.state === "failed" ? <ErrorState error={editor.check.error} /> : null}
    </div>
  );
}

function VersionBar({ agent, draft, editor, blocked, next, open }: { agent: Agent; draft: TaggedDraft; editor: Editor; blocked: boolean; next: number; open: (what: Open) => void }) {
  const diff = useDiff(agent.agent_id, agent.active_version, "draft", draft.value.exists);
  const publish = async () => {
    if (!editor.dirty || (await editor.store())) open("publish");
  };
  return (
    <div className="flex flex-wrap items-center gap-3 border-t border-line bg-bg px-4 py-2 sm:px-8 sm:py-2.5">
      <span className="small muted max-sm:hidden" role="status">
        {editor.dirty ? t.unsaved : draft.value.exists ? t.draftOn(draft.value.based_on) : t.noDraft(agent.active_version)}
      </span>
      {draft.value.exists && diff.data ? (
        <button type="button" className="row mono-s max-sm:hidden" onClick={() => open("publish")} disabled={editor.dirty}>
          <DiffCounts diff={diff.data.diff} />
          {editor.dirty ? null : <span className="ref">{t.seeDiff}</span>}
        </button>
      ) : null}
      <span className="grow" />
      {editor.dirty || draft.value.exists ? (
        <Button variant="ghost" onClick={() => open("discard")}>
          {t.discard}
        </Button>
      ) : null}
      <Button disabled={!editor.dirty || blocked} busy={editor.saving} onClick={() => void editor.store()}>
        {t.saveDraft}
      </Button>
      <Button variant="primary" disabled={blocked || (!editor.dirty && !draft.value.exists)} onClick={() => void publish()}>
        {t.publish(next)}
      </Button>
    </div>
  );
}

export function AgentEditor({ agent, draft }: { agent: Agent; draft: TaggedDraft }) {
  const router = useRouter();
  const editor = useEditor(agent.agent_id, draft);
  const [tabInAddress, setTab] = useSearchState("tab");
  const tab = (["yaml", "versions", "rules"].includes(tabInAddress) ? tabInAddress : "form") as TabName;
  const [invalid, onValidity] = useInvalid();
  const [open, setOpen] = useState<Open>();
  const [leave, setLeave] = useState<{ go: () => void }>();
  const versions = useVersions(agent.agent_id);
  const discard = useDiscardDraft(agent.agent_id);
  const remove = useDeleteAgent();
  useLeaveGuard(editor.dirty, (go) => setLeave({ go }));

  const newest = versions.data?.pages[0]?.items[0]?.number ?? agent.active_version;
  const yamlBroken = editor.yamlLeads && (editor.errors.length > 0 || editor.check?.state !== "known");
  const blocked = invalid || !editor.config.name.trim() || (editor.yamlLeads && editor.errors.length > 0);
  const close = () => setOpen(undefined);

  return (
    <Frame
      bare
      title={editor.config.name || strings.agents.newName}
      crumbs={crumbs}
      marks={
        draft.value.exists ? (
          <span className="max-sm:hidden">
            <Badge>{t.diffTitle(strings.agents.version(draft.value.based_on), strings.agents.draft)}</Badge>
          </span>
        ) : (
          <Badge>{strings.agents.version(agent.active_version)}</Badge>
        )
      }
      actions={
        <Button asChild>
          <Link href={newChatUrl(agent.agent_id)}>
            <IconChat className="ic-s" aria-hidden="true" />
            {t.openChat}
          </Link>
        </Button>
      }
    >
      <div className="grid min-h-0 grid-rows-[minmax(0,1fr)_auto]">
        <main id="page" className="overflow-auto px-4 pb-6 pt-4 sm:px-8 sm:pt-5" tabIndex={0}>
          <div className="mx-auto flex min-h-full max-w-[760px] flex-col gap-4">
            <div className="row gap-4">
              <Avatar name={editor.config.name} shape="square" size="l" />
              <div className="grow">
                <h2 className="trunc !text-[24px] !leading-7">{editor.config.name || strings.agents.newName}</h2>
                <p className="small muted trunc">{editor.config.system_prompt.split("\n")[0]}</p>
              </div>
              <AgentMenu agent={agent} onDelete={() => setOpen("delete")} />
            </div>
            {editor.failure ? <ErrorState error={editor.failure}>{null}</ErrorState> : null}
            <Tabs<TabName>
              label={agent.name}
              className="flex-1"
              value={tab}
              onChange={(next) => setTab(next === "form" ? "" : next)}
              tabs={[
                {
                  value: "form",
                  label: t.form,
                  content: (
                    <div className="pt-4">
                      {yamlBroken && editor.errors.length > 0 ? (
                        <p role="alert" className="small warn mb-3">
                          {t.yamlFix}
                        </p>
                      ) : null}
                      <AgentForm
                        agent={agent}
                        config={editor.config}
                        change={editor.change}
                        onValidity={onValidity}
                        disabled={editor.yamlLeads && editor.errors.length > 0}
                      />
                    </div>
                  ),
                },
                { value: "yaml", label: t.yaml, content: <YamlTab editor={editor} /> },
                {
                  value: "versions",
                  label: `${t.versions} ${newest}`,
                  content: (
                    <div className="pt-2">
                      <Versions agent={agent} />
                    </div>
                  ),
                },
                {
                  value: "rules",
                  label: t.rules,
                  content: (
                    <div className="pt-4">
                      <Rules agentId={agent.agent_id} />
                    </div>
                  ),
                },
              ]}
            />
          </div>
        </main>
        <VersionBar agent={agent} draft={draft} editor={editor} blocked={blocked} next={newest + 1} open={setOpen} />
      </div>

      {open === "publish" ? <PublishDialog agent={agent} number={newest + 1} onClose={close} /> : null}
      <ConflictDialog editor={editor} />
      <ConfirmDialog
        open={open === "discard"}
        onOpenChange={close}
        title={t.discardTitle(agent.name)}
        description={t.discardText(agent.active_version)}
        verb={t.discardVerb}
        onConfirm={async () => {
          if (draft.value.exists) await discard.mutateAsync(draft.etag);
          editor.forget();
          toast({ text: t.discarded });
        }}
      />
      <ConfirmDialog
        open={open === "delete"}
        onOpenChange={close}
        title={t.deleteTitle(agent.name)}
        description={t.deleteText}
        verb={t.deleteVerb(agent.name)}
        onConfirm={async () => {
          await remove.mutateAsync(agent.agent_id);
          editor.forget();
          toast({ text: t.deleted(agent.name) });
          router.replace("/agents");
        }}
      >
        <Terms>
          <Term name={t.versions}>{newest}</Term>
        </Terms>
      </ConfirmDialog>
      <ConfirmDialog
        open={leave !== undefined}
        onOpenChange={() => setLeave(undefined)}
        title={t.leaveTitle}
        description={t.leaveText}
        verb={t.leave}
        cancel={t.stay}
        onConfirm={async () => {
          editor.forget();
          leave?.go();
        }}
      />
    </Frame>
  );
}
