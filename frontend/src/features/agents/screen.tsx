"use client";

import Link from "next/link";
import { useDeferredValue, useState } from "react";

import { useAgents } from "@/api/queries/agents";
import { useInferenceSettings, useModels } from "@/api/queries/inference";
import type { Agent, ModelView } from "@/api/types";
import { ErrorState } from "@/components/error-state";
import { LoadMore } from "@/components/load-more";
import { Frame } from "@/components/shell/frame";
import { Avatar } from "@/components/ui/avatar";
import { Badge } from "@/components/ui/badge";
import { Button, IconButton } from "@/components/ui/button";
import { Empty } from "@/components/ui/empty";
import { IconAdd, IconAlert, IconChat, IconImport, IconSearch } from "@/components/ui/icon";
import { InputGroup } from "@/components/ui/input";
import { KindMark } from "@/components/ui/kind";
import { Seg } from "@/components/ui/seg";
import { SkeletonRows } from "@/components/ui/skeleton";
import { newChatUrl } from "@/lib/chat-url";
import { ago, moment } from "@/lib/format";
import { strings } from "@/lib/strings";
import { useSearchState } from "@/lib/use-search-state";
import { ImportDialog } from "./import-dialog";
import { NewAgentDialog } from "./new-agent-dialog";

const t = strings.agents;
type Sort = keyof typeof t.sorts;

function sorted(agents: Agent[], sort: Sort): Agent[] {
  const by = sort === "name" ? (a: Agent, b: Agent) => a.name.localeCompare(b.name) : (a: Agent, b: Agent) => b.updated_at.localeCompare(a.updated_at);
  return [...agents].sort(by);
}

function ModelCell({ agent, models, fallback }: { agent: Agent; models: ModelView[]; fallback: string | null | undefined }) {
  const { provider, name } = agent.config.model;
  const full = provider && name ? `${provider}/${name}` : fallback;
  if (!full) return <span className="warn">{strings.model.none}</span>;
  const known = models.find((model) => model.name === full);
  return (
    <span className="row mono-s muted" title={full}>
      {known ? <KindMark kind={known.kind} /> : null}
      <span className="trunc">{known?.title || full}</span>
    </span>
  );
}

function Row({ agent, models, fallback }: { agent: Agent; models: ModelView[]; fallback: string | null | undefined }) {
  const off = agent.off ?? [];
  return (
    <li className="grid grid-cols-[22px_minmax(0,1fr)_auto] items-center gap-x-3 py-2 sm:grid-cols-[22px_minmax(0,1fr)_200px_72px_88px_32px]">
      <Avatar name={agent.name} shape="square" />
      <span className="row">
        <Link href={`/agents/${agent.agent_id}`} className="row-link small med trunc">
          {agent.name}
        </Link>
        {agent.has_draft ? <Badge>{t.draft}</Badge> : null}
        {off.length > 0 ? (
          <Badge tone="bad" title={off.map((part) => `${part.part}: ${part.reason}`).join("\n")}>
            <IconAlert className="ic-s" aria-hidden="true" />
            {t.offParts(off.length)}
          </Badge>
        ) : null}
      </span>
      <span className="max-sm:hidden">
        <ModelCell agent={agent} models={models} fallback={fallback} />
      </span>
      <span className="small muted max-sm:hidden">{t.tools(agent.config.tools.length)}</span>
      <time className="small muted text-right max-sm:hidden" dateTime={agent.updated_at} title={moment(agent.updated_at)}>
        {ago(agent.updated_at)}
      </time>
      <span className="above">
        <IconButton asChild variant="ghost" size="s" label={`${t.chat}: ${agent.name}`}>
          <Link href={newChatUrl(agent.agent_id)}>
            <IconChat className="ic-s" aria-hidden="true" />
          </Link>
        </IconButton>
      </span>
    </li>
  );
}

export function AgentsScreen() {
  const [q, setQ] = useSearchState("q");
  const [order, setOrder] = useSearchState("sort");
  const sort: Sort = order === "name" ? "name" : "updated";
  const agents = useAgents(useDeferredValue(q.trim()));
  const models = useModels().data ?? [];
  const fallback = useInferenceSettings().data?.default_model;
  const [dialog, setDialog] = useState<"new" | "import">();
  const items = sorted(agents.data?.pages.flatMap((page) => page.items) ?? [], sort);
  const nothing = items.length === 0 && !agents.isPending && !agents.isError;
  const add = (
    <Button variant="primary" onClick={() => setDialog("new")}>
      <IconAdd className="ic-s" aria-hidden="true" />
      {t.new}
    </Button>
  );
  return (
    <Frame
      title={t.title}
      actions={
        <>
          <Button onClick={() => setDialog("import")} className="max-sm:hidden">
            <IconImport className="ic-s" aria-hidden="true" />
            {t.import}
          </Button>
          {nothing && !q ? null : add}
        </>
      }
    >
      <div className="mx-auto max-w-[960px]">
        {nothing && !q ? null : (
          <div className="row mb-4 flex-wrap">
            <InputGroup
              type="search"
              className="!w-[280px] max-sm:!w-full"
              before={<IconSearch className="ic-s muted" aria-hidden="true" />}
              aria-label={t.search}
              placeholder={t.search}
              value={q}
              onChange={(event) => setQ(event.target.value)}
            />
            <Seg
              label={t.sort}
              value={sort}
              onChange={(next) => setOrder(next === "updated" ? "" : next)}
              options={[
                { value: "updated", label: t.sorts.updated },
                { value: "name", label: t.sorts.name },
              ]}
            />
          </div>
        )}
        {agents.isPending ? (
          <SkeletonRows rows={5} />
        ) : agents.isError && items.length === 0 ? (
          <ErrorState error={agents.error} onRetry={() => void agents.refetch()} retrying={agents.isFetching} />
        ) : nothing ? (
          q ? (
            <Empty title={t.noMatch(q)} action={<Button onClick={() => setQ("")}>{t.clear}</Button>} />
          ) : (
            <Empty title={t.empty} action={add}>
              {t.emptyText}
            </Empty>
          )
        ) : (
          <>
            <ul className="rows border-t border-stroke" aria-label={t.title}>
              {items.map((agent) => (
                <Row key={agent.agent_id} agent={agent} models={models} fallback={fallback} />
              ))}
            </ul>
            <LoadMore query={agents} />
          </>
        )}
      </div>
      <NewAgentDialog open={dialog === "new"} onOpenChange={(open) => setDialog(open ? "new" : undefined)} />
      {dialog === "import" ? <ImportDialog onClose={() => setDialog(undefined)} /> : null}
    </Frame>
  );
}
