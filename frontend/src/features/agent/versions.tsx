"use client";

import { useState } from "react";

import { exportYaml, useActivate, useVersions } from "@/api/queries/agents";
import type { Agent, AgentVersion } from "@/api/types";
import { errorText, ErrorState } from "@/components/error-state";
import { LoadMore } from "@/components/load-more";
import { Badge } from "@/components/ui/badge";
import { Button, IconButton } from "@/components/ui/button";
import { ConfirmDialog, Dialog } from "@/components/ui/dialog";
import { IconDownload } from "@/components/ui/icon";
import { SkeletonRows } from "@/components/ui/skeleton";
import { toast } from "@/components/ui/toast";
import { saveText } from "@/lib/save-file";
import { ago, moment } from "@/lib/format";
import { strings } from "@/lib/strings";
import { Diff } from "./diff";

const t = strings.agent;

export async function downloadYaml(agent: Pick<Agent, "agent_id" | "name">, version?: number): Promise<void> {
  try {
    const yaml = await exportYaml(agent.agent_id, version);
    saveText(yaml, `${agent.name}${version === undefined ? "" : `-v${version}`}.yaml`, "text/yaml");
  } catch (error) {
    toast({ text: errorText(error), tone: "bad" });
  }
}

function Row({ version, agent, act }: { version: AgentVersion; agent: Agent; act: (what: "compare" | "activate") => void }) {
  return (
    <li className="flex flex-wrap items-center gap-x-3 gap-y-1 py-2">
      <span className="mono w-10 flex-none font-medium">{strings.agents.version(version.number)}</span>
      <span className="small grow max-sm:basis-[60%]">
        {version.note || <span className="muted">{strings.common.none}</span>}
      </span>
      {version.active ? <Badge tone="live">{t.active}</Badge> : null}
      <span className="mono-s muted max-md:hidden" title={version.content_hash}>
        {version.content_hash.slice(0, 8)}
      </span>
      <time className="small muted w-24 text-right max-sm:w-auto" dateTime={version.created_at} title={moment(version.created_at)}>
        {ago(version.created_at)}
      </time>
      <span className="row flex-none sm:w-[232px] sm:justify-end">
        {version.active ? null : (
          <>
            <Button size="s" variant="ghost" onClick={() => act("compare")}>
              {t.compare}
            </Button>
            <Button size="s" onClick={() => act("activate")}>
              {version.number < agent.active_version ? t.rollBack : t.activate}
            </Button>
          </>
        )}
        <IconButton
          size="s"
          variant="ghost"
          label={`${t.exportVersion}: ${strings.agents.version(version.number)}`}
          onClick={() => void downloadYaml(agent, version.number)}
        >
          <IconDownload className="ic-s" aria-hidden="true" />
        </IconButton>
      </span>
    </li>
  );
}

export function Versions({ agent }: { agent: Agent }) {
  const versions = useVersions(agent.agent_id);
  const activate = useActivate(agent.agent_id);
  const [open, setOpen] = useState<{ what: "compare" | "activate"; number: number }>();
  if (versions.isPending) return <SkeletonRows rows={4} />;
  if (versions.isError) return <ErrorState error={versions.error} onRetry={() => void versions.refetch()} retrying={versions.isFetching} />;
  const close = () => setOpen(undefined);
  return (
    <>
      <ul className="rows" aria-label={t.versions}>
        {versions.data.pages
          .flatMap((page) => page.items)
          .map((version) => (
            <Row key={version.version_id} version={version} agent={agent} act={(what) => setOpen({ what, number: version.number })} />
          ))}
      </ul>
      <LoadMore query={versions} />
      {open?.what === "compare" ? (
        <Dialog open onOpenChange={close} size="xl" title={t.diffTitle(strings.agents.version(open.number), strings.agents.version(agent.active_version))}>
          <Diff agentId={agent.agent_id} from={open.number} to={agent.active_version} />
        </Dialog>
      ) : null}
      {open?.what === "activate" ? (
        <ConfirmDialog
          open
          onOpenChange={close}
          tone="primary"
          title={t.activateTitle(open.number)}
          description={t.activateText}
          verb={t.activate}
          onConfirm={async () => {
            await activate.mutateAsync(open.number);
            toast({ text: t.activated(open.number) });
          }}
        >
          <Diff agentId={agent.agent_id} from={agent.active_version} to={open.number} />
        </ConfirmDialog>
      ) : null}
    </>
  );
}
