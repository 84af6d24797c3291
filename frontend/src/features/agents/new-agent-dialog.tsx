"use client";

import { useRouter } from "next/navigation";

import { useCreateAgent, useTemplates } from "@/api/queries/agents";
import type { AgentConfig } from "@/api/types";
import { ErrorState } from "@/components/error-state";
import { Dialog } from "@/components/ui/dialog";
import { IconAdd } from "@/components/ui/icon";
import { SkeletonRows } from "@/components/ui/skeleton";
import { strings } from "@/lib/strings";

const t = strings.agents;

/** The least a configuration says; everything else has its default on the server. */
const blank = { name: t.newName } as AgentConfig;

function Choice({ name, text, busy, onClick }: { name: string; text: string; busy: boolean; onClick: () => void }) {
  return (
    <li>
      <button type="button" className="row-link block w-full px-2 py-2.5 text-left" aria-disabled={busy || undefined} onClick={busy ? undefined : onClick}>
        <span className="row text-[14px] font-semibold leading-5">
          <IconAdd className="ic-s muted" aria-hidden="true" />
          {name}
        </span>
        <span className="small muted block pl-[22px]">{text}</span>
      </button>
    </li>
  );
}

/** A new agent from a template or from nothing; it opens in the editor. */
export function NewAgentDialog({ open, onOpenChange }: { open: boolean; onOpenChange: (open: boolean) => void }) {
  const router = useRouter();
  const templates = useTemplates();
  const create = useCreateAgent();
  const make = (config: AgentConfig) => create.mutate(config, { onSuccess: (agent) => router.push(`/agents/${agent.agent_id}`) });
  return (
    <Dialog open={open} onOpenChange={onOpenChange} title={t.new} description={t.templates}>
      {create.isError ? <ErrorState error={create.error} /> : null}
      <ul className="rows">
        <Choice name={t.blank} text={t.blankText} busy={create.isPending} onClick={() => make(blank)} />
        {templates.data?.map((one) => (
          <Choice key={one.id} name={one.name} text={one.description} busy={create.isPending} onClick={() => make(one.config)} />
        ))}
      </ul>
      {templates.isPending ? <SkeletonRows rows={2} /> : null}
      {templates.isError ? <ErrorState error={templates.error} onRetry={() => void templates.refetch()} /> : null}
    </Dialog>
  );
}
