"use client";

import { useQueryClient } from "@tanstack/react-query";
import Link from "next/link";
import { useRouter } from "next/navigation";
import { useState } from "react";

import { useAgents } from "@/api/queries/agents";
import { runKeys, useSend } from "@/api/queries/runs";
import { useCreateThread } from "@/api/queries/threads";
import { ErrorState } from "@/components/error-state";
import { Frame } from "@/components/shell/frame";
import { Empty } from "@/components/ui/empty";
import { Select } from "@/components/ui/select";
import { SkeletonRows } from "@/components/ui/skeleton";
import { strings } from "@/lib/strings";
import { useSearchState } from "@/lib/use-search-state";
import { uuid7 } from "@/lib/uuid7";
import { Composer } from "./composer";
import { writeDraft } from "./drafts";
import type { NewMessage } from "./use-thread";

const t = strings.chat;
const draftKey = "new";

/** A thread that does not exist until its first message is sent. Its ids are made once, so that a second try cannot make two. */
function useBegin(agentId: string) {
  const router = useRouter();
  const cache = useQueryClient();
  const [ids] = useState(() => ({ thread: uuid7(), message: uuid7() }));
  const create = useCreateThread();
  const send = useSend();
  const [failure, setFailure] = useState<{ error: unknown; text: string }>();
  const begin = async ({ content, model }: NewMessage) => {
    setFailure(undefined);
    try {
      await create.mutateAsync({ thread_id: ids.thread, agent_id: agentId, title: "" });
      await send.mutateAsync({ threadId: ids.thread, messageId: ids.message, content, model });
      writeDraft(draftKey, "");
      await cache.invalidateQueries({ queryKey: runKeys.messages(ids.thread) });
      router.replace(`/threads/${ids.thread}`);
    } catch (error) {
      setFailure({ error, text: content });
    }
  };
  return { begin, failure, sending: create.isPending || send.isPending || send.isSuccess };
}

export function NewThread() {
  const [agentParam, setAgent] = useSearchState("agent");
  const [prompt] = useSearchState("prompt");
  const agents = useAgents();
  const known = agents.data?.pages.flatMap((page) => page.items) ?? [];
  const agent = known.find((one) => one.agent_id === agentParam) ?? (agentParam ? undefined : known[0]);
  const agentId = agent?.agent_id ?? agentParam;
  const { begin, failure, sending } = useBegin(agentId);
  const name = agent?.name ?? "";
  return (
    <Frame title={t.untitled} crumbs={[{ href: "/threads", label: t.crumb }]} bare>
      <main id="page" className="chat one">
        <section className="tr">
          <div className="scroll">
            <div className="fresh">
              {agents.isPending ? (
                <SkeletonRows rows={2} />
              ) : agents.isError ? (
                <ErrorState error={agents.error} onRetry={() => void agents.refetch()} retrying={agents.isFetching} />
              ) : known.length === 0 && !agentParam ? (
                <Empty
                  title={t.composer.noAgents}
                  action={
                    <Link className="btn" href="/agents">
                      {t.composer.makeAgent}
                    </Link>
                  }
                />
              ) : (
                <>
                  <h2>{name}</h2>
                  <p className="small muted">{t.emptyText(name)}</p>
                  {known.length > 1 ? (
                    <div className="mt-4 max-w-[280px]">
                      <Select
                        label={t.composer.agent}
                        placeholder={t.composer.pickAgent}
                        value={agentId || undefined}
                        onChange={setAgent}
                        groups={[{ options: known.map((one) => ({ value: one.agent_id, label: one.name })) }]}
                      />
                    </div>
                  ) : null}
                </>
              )}
              {failure ? (
                <div className="mt-4">
                  <ErrorState error={failure.error} />
                </div>
              ) : null}
            </div>
          </div>
          <div className="dock">
            <Composer
              key={prompt}
              draftKey={draftKey}
              agent={name}
              initial={prompt}
              running={false}
              stopping={false}
              onSend={(message) => void begin(message)}
              onStop={() => undefined}
              sending={(sending && !failure) || (!agentId && agents.isPending)}
              returned={failure}
              blocked={agentId || agents.isPending ? undefined : t.composer.needsAgent}
            />
          </div>
        </section>
      </main>
    </Frame>
  );
}
