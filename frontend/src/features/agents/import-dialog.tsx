"use client";

import { useRouter } from "next/navigation";
import { useRef, useState } from "react";

import { useImportAgent } from "@/api/queries/agents";
import { ErrorState } from "@/components/error-state";
import { Button } from "@/components/ui/button";
import { Dialog } from "@/components/ui/dialog";
import { IconDone, IconFile } from "@/components/ui/icon";
import { StateMark } from "@/components/ui/badge";
import { toast } from "@/components/ui/toast";
import { useYamlCheck } from "@/components/use-yaml-check";
import { YamlEditor } from "@/components/yaml-editor";
import { strings } from "@/lib/strings";

const t = strings.agents;

export function ImportDialog({ onClose }: { onClose: () => void }) {
  const router = useRouter();
  const create = useImportAgent();
  const [yaml, setYaml] = useState("");
  const file = useRef<HTMLInputElement>(null);
  const check = useYamlCheck(yaml.trim() ? yaml : undefined);
  const errors = check?.state === "known" ? check.check.errors : [];
  const fine = check?.state === "known" && errors.length === 0;
  const read = (from: File | undefined) => void from?.text().then(setYaml);
  const submit = () =>
    create.mutate(yaml, {
      onSuccess: (agent) => {
        toast({ text: t.created(agent.name) });
        router.push(`/agents/${agent.agent_id}`);
      },
    });
  return (
    <Dialog
      open
      onOpenChange={onClose}
      size="l"
      title={t.importTitle}
      description={t.importText}
      footer={
        <>
          <span className="push mr-auto" role="status">
            {fine ? (
              <StateMark tone="live" icon={<IconDone className="ic-s" aria-hidden="true" />}>
                {strings.agent.yamlFine}
              </StateMark>
            ) : check?.state === "checking" ? (
              <StateMark>{strings.agent.yamlChecking}</StateMark>
            ) : null}
          </span>
          <Button onClick={onClose}>{strings.common.cancel}</Button>
          <Button variant="primary" disabled={!fine} busy={create.isPending} onClick={submit}>
            {t.importVerb}
          </Button>
        </>
      }
    >
      <div
        onDragOver={(event) => event.preventDefault()}
        onDrop={(event) => {
          event.preventDefault();
          read(event.dataTransfer.files[0]);
        }}
        className="col gap-3"
      >
        <div>
          <input ref={file} type="file" accept=".yaml,.yml,text/yaml" className="sr-only" tabIndex={-1} aria-hidden="true" onChange={(event) => read(event.target.files?.[0])} />
          <Button size="s" onClick={() => file.current?.click()}>
            <IconFile className="ic-s" aria-hidden="true" />
            {t.importFile}
          </Button>
        </div>
        <YamlEditor value={yaml} onChange={setYaml} errors={errors} minRows={10} />
        {check?.state === "failed" ? <ErrorState error={check.error} /> : null}
        {create.isError ? <ErrorState error={create.error} /> : null}
      </div>
    </Dialog>
  );
}
