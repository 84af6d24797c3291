"use client";

import { useState } from "react";

import { usePublish } from "@/api/queries/agents";
import type { Agent } from "@/api/types";
import { errorText } from "@/components/error-state";
import { Button } from "@/components/ui/button";
import { CopyButton } from "@/components/ui/copy";
import { Dialog } from "@/components/ui/dialog";
import { Field, Input } from "@/components/ui/input";
import { Term, Terms } from "@/components/ui/terms";
import { toast } from "@/components/ui/toast";
import { moment } from "@/lib/format";
import { strings } from "@/lib/strings";
import { Diff } from "./diff";
import type { Editor } from "./use-editor";

const t = strings.agent;

/** The difference first, then the note, then the act. */
export function PublishDialog({ agent, number, onClose }: { agent: Agent; number: number; onClose: () => void }) {
  const publish = usePublish(agent.agent_id);
  const [note, setNote] = useState("");
  const act = () =>
    publish.mutate(note.trim(), {
      onSuccess: (version) => {
        toast({ text: t.published(version.number) });
        onClose();
      },
    });
  return (
    <Dialog
      open
      onOpenChange={onClose}
      size="l"
      title={t.publishTitle(agent.name, number)}
      description={t.publishText}
      footer={
        <>
          <Button onClick={onClose}>{strings.common.cancel}</Button>
          <Button variant="primary" busy={publish.isPending} onClick={act}>
            {t.publish(number)}
          </Button>
        </>
      }
    >
      <div className="col gap-4">
        <Diff agentId={agent.agent_id} from={agent.active_version} to="draft" />
        <Field label={t.note} hint={t.noteHint} error={publish.isError ? errorText(publish.error) : undefined}>
          {(wiring) => <Input {...wiring} maxLength={1000} value={note} onChange={(event) => setNote(event.target.value)} />}
        </Field>
      </div>
    </Dialog>
  );
}

/** Somebody saved first. Both texts are still there; a person decides. */
export function ConflictDialog({ editor }: { editor: Editor }) {
  const theirs = editor.conflict?.theirs.value;
  if (!theirs) return null;
  return (
    <Dialog
      open
      onOpenChange={editor.closeConflict}
      size="l"
      title={t.conflictTitle}
      description={t.conflictText}
      footer={
        <>
          <span className="mr-auto">
            <CopyButton text={editor.yaml} label={t.conflictCopy} />
          </span>
          <Button onClick={editor.takeTheirs}>{t.conflictTake}</Button>
          <Button variant="primary" busy={editor.saving} onClick={() => void editor.keepMine()}>
            {t.conflictKeep}
          </Button>
        </>
      }
    >
      <Terms className="mb-3">
        <Term name={t.draftOn(theirs.based_on)}>{moment(theirs.updated_at)}</Term>
      </Terms>
      <pre className="code max-h-[40dvh] !overflow-auto p-3" tabIndex={0}>
        {theirs.yaml}
      </pre>
    </Dialog>
  );
}
