"use client";

import Link from "next/link";

import { useAgents } from "@/api/queries/agents";
import { useThreads } from "@/api/queries/threads";
import type { Thread } from "@/api/types";
import { ErrorState } from "@/components/error-state";
import { LoadMore } from "@/components/load-more";
import { Frame } from "@/components/shell/frame";
import { RunStatus } from "@/components/status";
import { ThreadActions } from "@/components/thread-actions";
import { Button } from "@/components/ui/button";
import { Empty } from "@/components/ui/empty";
import { IconAdd } from "@/components/ui/icon";
import { Select } from "@/components/ui/select";
import { SkeletonRows } from "@/components/ui/skeleton";
import { newChatUrl } from "@/lib/chat-url";
import { ago, count, moment, money } from "@/lib/format";
import { strings } from "@/lib/strings";
import { useSearchState } from "@/lib/use-search-state";

const t = strings.threads;
const everyone = "*";

function NewThread({ agent }: { agent: string }) {
  return (
    <Button asChild variant="primary">
      <Link href={newChatUrl(agent || undefined)}>
        <IconAdd className="ic-s" aria-hidden="true" />
        {t.new}
      </Link>
    </Button>
  );
}

function cost(thread: Thread): string {
  if (!thread.usage) return "";
  return money(thread.usage.cost_known ? thread.usage.cost_micro_usd : null, strings.kind.unknownPrice);
}

function Row({ thread }: { thread: Thread }) {
  return (
    <li className="grid grid-cols-[minmax(0,1fr)_auto] items-center gap-x-4 py-2 sm:grid-cols-[56px_minmax(0,1fr)_140px_150px_88px_32px]">
      <span className="mono-s muted max-sm:hidden">{t.number(thread.number)}</span>
      <Link href={`/threads/${thread.thread_id}`} className="row-link small med trunc">
        {thread.title || <span className="muted">{t.untitled}</span>}
      </Link>
      <span className="small muted trunc max-sm:hidden">{thread.agent_name}</span>
      <span className="mono-s ink2 flex justify-end max-sm:hidden" title={thread.usage ? t.tokens(count(thread.usage.input_tokens + thread.usage.output_tokens)) : undefined}>
        {thread.active_run ? <RunStatus status={thread.active_run.status} /> : cost(thread)}
      </span>
      <time className="small muted text-right max-sm:hidden" dateTime={thread.updated_at} title={moment(thread.updated_at)}>
        {ago(thread.updated_at)}
      </time>
      <span className="row small muted flex-wrap sm:hidden" style={{ gridRow: 2, gridColumn: 1 }}>
        {thread.active_run ? <RunStatus status={thread.active_run.status} /> : null}
        <span className="trunc">
          {thread.agent_name} · {ago(thread.updated_at)}
        </span>
      </span>
      <span className="above max-sm:row-span-2 max-sm:row-start-1 max-sm:col-start-2">
        <ThreadActions thread={thread} />
      </span>
    </li>
  );
}

export function ThreadsScreen() {
  const [agent, setAgent] = useSearchState("agent");
  const threads = useThreads(agent || undefined);
  const agents = useAgents();
  const items = threads.data?.pages.flatMap((page) => page.items) ?? [];
  const known = agents.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <Frame title={t.title} actions={items.length > 0 ? <NewThread agent={agent} /> : null}>
      <div className="mx-auto max-w-[960px]">
        {known.length > 1 ? (
          <div className="mb-4 max-w-[280px]">
            <Select
              label={t.agent}
              placeholder={t.everyAgent}
              value={agent || everyone}
              onChange={(next) => setAgent(next === everyone ? "" : next)}
              groups={[
                { options: [{ value: everyone, label: t.everyAgent }] },
                { options: known.map((one) => ({ value: one.agent_id, label: one.name })) },
              ]}
            />
          </div>
        ) : null}
        {threads.isPending ? (
          <SkeletonRows rows={6} />
        ) : threads.isError && items.length === 0 ? (
          <ErrorState error={threads.error} onRetry={() => void threads.refetch()} retrying={threads.isFetching} />
        ) : items.length === 0 ? (
          <Empty title={agent ? t.emptyFiltered : t.empty} action={<NewThread agent={agent} />}>
            {t.emptyText}
          </Empty>
        ) : (
          <>
            <ul className="rows border-t border-stroke" aria-label={t.title}>
              {items.map((thread) => (
                <Row key={thread.thread_id} thread={thread} />
              ))}
            </ul>
            <LoadMore query={threads} />
          </>
        )}
      </div>
    </Frame>
  );
}
