"use client";

import { useInfiniteQuery, useMutation, useQuery, useQueryClient, type InfiniteData, type QueryClient } from "@tanstack/react-query";

import { client, data } from "../client";
import { Problem } from "../problem";
import { readAgain } from "../query-client";
import type { components } from "../schema";
import type { Message, Run } from "../types";

type Schemas = components["schemas"];
type Page = Schemas["MessagePage"];
export type MessagePages = InfiniteData<Page, number | null>;

export const runKeys = {
  messages: (threadId: string) => ["messages", threadId] as const,
  ofThread: (threadId: string) => ["runs", "thread", threadId] as const,
  steps: (runId: string) => ["runs", "one", runId, "steps"] as const,
};

const pageSize = 50;

const readMessages = (thread_id: string, before: number | null, signal?: AbortSignal): Promise<Page> =>
  data(
    client.GET("/api/threads/{thread_id}/messages", {
      params: { path: { thread_id }, query: { limit: pageSize, ...(before === null ? {} : { before_seq: before }) } },
      signal,
    }),
  );

/** A thread's entries in pages upwards: `pages[0]` is the newest. Never refetched whole; `refreshNewest` brings what is new. */
export const useMessages = (threadId: string) =>
  useInfiniteQuery({
    queryKey: runKeys.messages(threadId),
    queryFn: ({ pageParam, signal }) => readMessages(threadId, pageParam, signal),
    initialPageParam: null as number | null,
    getNextPageParam: (page: Page) => page.next_before_seq ?? undefined,
    staleTime: Infinity,
  });

const lowest = (messages: readonly Message[]): number | null => messages.find((message) => message.seq !== null)?.seq ?? null;

/** Known pages with a newly read newest one: what it covers is replaced, what lies before stays. A gap drops what lies before it. */
export function withNewest(known: MessagePages | undefined, fresh: Page): MessagePages {
  const alone = { pages: [fresh], pageParams: [null] };
  const newest = known?.pages[0];
  if (!known || !newest || newest.branch !== fresh.branch) return alone;
  const from = lowest(fresh.items);
  if (from === null || fresh.next_before_seq === null) return alone;
  const all = known.pages.flatMap((page) => page.items);
  const highest = Math.max(0, ...all.map((message) => message.seq ?? 0));
  if (highest < from - 1) return alone;
  const pages = known.pages
    .map((page) => ({ ...page, items: page.items.filter((message) => message.seq !== null && message.seq < from) }))
    .filter((page, at) => at === 0 || page.items.length > 0);
  const first = pages[0]!;
  return {
    pages: [{ branch: fresh.branch, items: [...first.items, ...fresh.items], next_before_seq: first.items.length > 0 || pages.length > 1 ? first.next_before_seq : fresh.next_before_seq }, ...pages.slice(1)],
    pageParams: known.pageParams.slice(0, pages.length),
  };
}

export async function refreshNewest(cache: QueryClient, threadId: string): Promise<void> {
  const fresh = await readMessages(threadId, null);
  cache.setQueryData<MessagePages>(runKeys.messages(threadId), (known) => withNewest(known, fresh));
}

/** A thread's runs, newest first. Asked again now and then, for another tab or a trigger may have started one. */
export const useRuns = (threadId: string) =>
  useQuery({
    queryKey: runKeys.ofThread(threadId),
    queryFn: ({ signal }) => data(client.GET("/api/threads/{thread_id}/runs", { params: { path: { thread_id: threadId } }, signal })),
    staleTime: 5_000,
    refetchInterval: 15_000,
  });

export const useSteps = (runId: string, enabled: boolean) =>
  useQuery({
    queryKey: runKeys.steps(runId),
    queryFn: ({ signal }) => data(client.GET("/api/runs/{run_id}/steps", { params: { path: { run_id: runId } }, signal })),
    enabled,
    staleTime: 5_000,
  });

/** A run in the list, put there before the list is read again. */
function noteRun(cache: QueryClient, run: Run): void {
  cache.setQueryData<Run[]>(runKeys.ofThread(run.thread_id), (runs) => [run, ...(runs ?? []).filter((one) => one.run_id !== run.run_id)]);
  void readAgain(cache, runKeys.ofThread(run.thread_id));
  void readAgain(cache, ["threads"]);
}

/** Nobody answered, or a passing fault: the same message id makes sending again safe. */
const passing = (error: unknown): boolean => !(error instanceof Problem) || [0, 502, 503, 504].includes(error.status);

export interface Sending {
  threadId: string;
  messageId: string;
  content: string;
  model?: string;
  ifBusy?: "enqueue" | "interrupt";
}

export function useSend() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: ({ threadId, messageId, content, model, ifBusy }: Sending) =>
      data(
        client.POST("/api/threads/{thread_id}/runs", {
          params: { path: { thread_id: threadId } },
          body: { message: { message_id: messageId, content }, if_busy: ifBusy ?? "enqueue", ...(model ? { model } : {}) },
        }),
      ),
    retry: (failures, error) => failures < 3 && passing(error),
    retryDelay: (failures) => 400 * 2 ** failures,
    networkMode: "always",
    onSuccess: (run) => noteRun(cache, run),
  });
}

export function useStopRun() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (run_id: string) => data(client.POST("/api/runs/{run_id}/stop", { params: { path: { run_id } } })),
    onSuccess: (run) => cache.invalidateQueries({ queryKey: runKeys.ofThread(run.thread_id) }),
  });
}

export function useRetryRun() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (run_id: string) => data(client.POST("/api/runs/{run_id}/retry", { params: { path: { run_id } } })),
    onSuccess: (run) => noteRun(cache, run),
  });
}
