"use client";

import { useQueryClient, type QueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useMemo, useState } from "react";

import { readAgain } from "@/api/query-client";
import { useThreadApprovals } from "@/api/queries/approvals";
import { fileKeys } from "@/api/queries/files";
import { refreshNewest, runKeys, useMessages, useRuns, useSend, type MessagePages } from "@/api/queries/runs";
import { sessionKeys } from "@/api/queries/session";
import { threadKeys, useThread as useThreadRow } from "@/api/queries/threads";
import type { Approval, Message, Run, Thread } from "@/api/types";
import { uuid7 } from "@/lib/uuid7";
import { writeDraft } from "./drafts";
import { buildEntries, mergeMessages, writingEntries, type Entry, type Outgoing } from "./entries";
import { isTerminal, type RunState } from "./run-state";
import { useRun, type WatchedRun } from "./use-run";

/** The run to watch: the one at work, else the queued one whose turn is next. Runs come newest first. */
export function runToWatch(runs: readonly Run[]): Run | undefined {
  const open = runs.filter((run) => !isTerminal(run.status));
  return open.find((run) => run.status !== "queued") ?? open.at(-1);
}

const allMessages = (pages: Pick<MessagePages, "pages"> | undefined): Message[] => pages?.pages.toReversed().flatMap((page) => page.items) ?? [];

/** The stream knows better what it has seen. */
function mergeApprovals(listed: readonly Approval[], live: readonly Approval[]): readonly Approval[] {
  const seen = new Set(live.map((approval) => approval.approval_id));
  return [...listed.filter((approval) => !seen.has(approval.approval_id)), ...live];
}

/** The list's runs, with what the stream knows better of the one being watched. */
function withWatched(runs: readonly Run[], state: RunState): Run[] {
  const live = state.run;
  if (!live) return [...runs];
  const listed = runs.find((run) => run.run_id === live.run_id);
  if (!listed) return [live, ...runs];
  if (isTerminal(listed.status)) return [...runs];
  return runs.map((run) => (run === listed ? live : run));
}

function noteTitle(cache: QueryClient, threadId: string, title: string | null): void {
  if (title) cache.setQueryData<Thread>(threadKeys.one(threadId), (thread) => thread && { ...thread, title });
}

/** Brings the cache up to date when a run has reached its end, and when somebody comes back to the page. */
function useSettling(threadId: string, watched: WatchedRun): void {
  const cache = useQueryClient();
  const { runId, state, stream } = watched;
  useEffect(() => {
    if (!state.finished) return;
    noteTitle(cache, threadId, state.title);
    void refreshNewest(cache, threadId).catch(() => undefined);
    void readAgain(cache, runKeys.ofThread(threadId));
    void readAgain(cache, threadKeys.all);
  }, [cache, threadId, runId, state.finished, state.title]);
  useEffect(() => {
    if (stream === "refused") void readAgain(cache, sessionKeys.me);
    if (stream === "missing") void readAgain(cache, runKeys.ofThread(threadId));
  }, [cache, threadId, stream]);
  const tools = state.messages.filter((message) => message.role === "tool").length;
  useEffect(() => {
    void readAgain(cache, fileKeys.all(threadId));
  }, [cache, threadId, state.written, tools]);
  const asked = state.approvals.length;
  useEffect(() => {
    if (asked > 0) void readAgain(cache, ["approvals"]);
  }, [cache, asked, state.run?.status]);
  useEffect(() => {
    const back = () => {
      if (document.visibilityState !== "visible") return;
      void refreshNewest(cache, threadId).catch(() => undefined);
      void readAgain(cache, runKeys.ofThread(threadId));
    };
    const known = cache.getQueryState(runKeys.messages(threadId));
    if (known?.dataUpdatedAt && Date.now() - known.dataUpdatedAt > 1_000) back();
    document.addEventListener("visibilitychange", back);
    return () => document.removeEventListener("visibilitychange", back);
  }, [cache, threadId]);
}

export interface NewMessage {
  content: string;
  model: string;
  ifBusy: "enqueue" | "interrupt";
}

/** Messages on their way. Each has its id before it leaves, so that sending it again cannot make two. */
function useOutbox(threadId: string, known: ReadonlySet<string>) {
  const [all, setAll] = useState<Outgoing[]>([]);
  const { mutate } = useSend();
  const cache = useQueryClient();
  const post = useCallback(
    (one: Outgoing) => {
      mutate(
        { threadId, messageId: one.messageId, content: one.content, model: one.model, ifBusy: one.ifBusy },
        {
          onSuccess: () => {
            writeDraft(threadId, "");
            void refreshNewest(cache, threadId).catch(() => undefined);
          },
          onError: (error) => {
            writeDraft(threadId, one.content);
            setAll((list) => list.map((other) => (other.messageId === one.messageId ? { ...other, error } : other)));
          },
        },
      );
    },
    [mutate, threadId, cache],
  );
  const send = useCallback(
    (message: NewMessage) => {
      const one: Outgoing = { ...message, messageId: uuid7(), at: new Date().toISOString() };
      setAll((list) => [...list, one]);
      post(one);
    },
    [post],
  );
  const again = useCallback(
    (messageId: string) => {
      setAll((list) => list.map((one) => (one.messageId === messageId ? { ...one, error: undefined } : one)));
      const one = all.find((other) => other.messageId === messageId);
      if (one) post({ ...one, error: undefined });
    },
    [all, post],
  );
  const drop = useCallback((messageId: string) => setAll((list) => list.filter((one) => one.messageId !== messageId)), []);
  const outgoing = useMemo(() => all.filter((one) => !known.has(one.messageId)), [all, known]);
  return { outgoing, send, again, drop };
}

/** All there is to show and do of one thread. */
export function useThread(threadId: string) {
  const thread = useThreadRow(threadId);
  const pages = useMessages(threadId);
  const runList = useRuns(threadId);
  const watched = useRun(runList.data ? runToWatch(runList.data)?.run_id : undefined);
  const { state } = watched;
  useSettling(threadId, watched);

  const messages = useMemo(() => mergeMessages(allMessages(pages.data), state.messages), [pages.data, state.messages]);
  const runs = useMemo(() => withWatched(runList.data ?? [], state), [runList.data, state]);
  const decided = useThreadApprovals(threadId).data?.items;
  const approvals = useMemo(() => mergeApprovals(decided ?? [], state.approvals), [decided, state.approvals]);
  const known = useMemo(() => new Set(messages.map((message) => message.message_id)), [messages]);
  const outbox = useOutbox(threadId, known);

  const saved = useMemo(() => buildEntries({ messages, approvals, runs }), [messages, approvals, runs]);
  const entries = useMemo(() => {
    const queuedAt = saved.findIndex((entry) => entry.kind === "user" && entry.message.seq === null);
    const at = queuedAt === -1 ? saved.length : queuedAt;
    const writing: Entry[] = state.partial ? writingEntries(state.partial) : [];
    const leaving: Entry[] = outbox.outgoing.map((outgoing) => ({ kind: "outgoing", key: `m:${outgoing.messageId}`, outgoing }));
    return [...saved.slice(0, at), ...writing, ...saved.slice(at), ...leaving];
  }, [saved, state.partial, outbox.outgoing]);

  const active = runs.find((run) => !isTerminal(run.status) && run.status !== "queued") ?? runToWatch(runs);
  return { thread, pages, runList, watched, messages, runs, approvals, entries, active, ...outbox };
}

export type ThreadView = ReturnType<typeof useThread>;
