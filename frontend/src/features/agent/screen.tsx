"use client";

import { isProblem } from "@/api/problem";
import { useAgent, useDraft } from "@/api/queries/agents";
import { ErrorState } from "@/components/error-state";
import { NotFound } from "@/components/not-found";
import { Frame } from "@/components/shell/frame";
import { SkeletonRows } from "@/components/ui/skeleton";
import { strings } from "@/lib/strings";
import { useRouteId } from "@/lib/use-route-id";
import { AgentEditor } from "./editor";

const crumbs = [{ href: "/agents", label: strings.agents.title }];

/** One agent: its draft, versions and rules. */
export function AgentScreen() {
  const id = useRouteId();
  return id === undefined ? <Waiting /> : <Loaded key={id} id={id} />;
}

function Waiting() {
  return (
    <Frame title={strings.agents.title} crumbs={[]}>
      <div className="mx-auto max-w-[760px]">
        <SkeletonRows rows={5} />
      </div>
    </Frame>
  );
}

function Loaded({ id }: { id: string }) {
  const agent = useAgent(id);
  const draft = useDraft(id);
  const error = agent.error ?? draft.error;
  if (isProblem(error, 404) || isProblem(error, 422)) {
    return (
      <Frame title={strings.notFound.title} crumbs={crumbs}>
        <NotFound />
      </Frame>
    );
  }
  if (agent.data && draft.data) return <AgentEditor agent={agent.data} draft={draft.data} />;
  if (error) {
    return (
      <Frame title={strings.agents.title} crumbs={[]}>
        <div className="mx-auto max-w-[760px]">
          <ErrorState error={error} onRetry={() => void Promise.all([agent.refetch(), draft.refetch()])} retrying={agent.isFetching} />
        </div>
      </Frame>
    );
  }
  return <Waiting />;
}
