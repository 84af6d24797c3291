"use client";

import { useInfiniteQuery, useMutation, useQuery, useQueryClient, type InfiniteData } from "@tanstack/react-query";

import { client, data } from "../client";
import type { components } from "../schema";
import type { Thread } from "../types";

interface ThreadPage {
  items: Thread[];
  next_cursor?: string | null;
}

export const threadKeys = {
  all: ["threads"] as const,
  list: (agentId: string | undefined) => ["threads", "list", agentId ?? ""] as const,
  one: (id: string) => ["threads", "one", id] as const,
};

const isLive = (thread: Thread): boolean => thread.active_run != null;

/** Asked again every few seconds while some thread has a run: no stream is held open for a list. */
export const useThreads = (agentId?: string, enabled = true) =>
  useInfiniteQuery({
    queryKey: threadKeys.list(agentId),
    enabled,
    queryFn: ({ pageParam, signal }) =>
      data(
        client.GET("/api/threads", {
          params: { query: { ...(agentId ? { agent_id: agentId } : {}), ...(pageParam ? { cursor: pageParam } : {}) } },
          signal,
        }),
      ),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor ?? undefined,
    placeholderData: (before) => before,
    refetchInterval: (query) => (query.state.data?.pages.some((page) => page.items.some(isLive)) ? 4_000 : false),
  });

export const useThread = (id: string, enabled = true) =>
  useQuery({
    queryKey: threadKeys.one(id),
    queryFn: ({ signal }) => data(client.GET("/api/threads/{thread_id}", { params: { path: { thread_id: id } }, signal })),
    enabled,
  });

export function useCreateThread() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (body: components["schemas"]["NewThread"]) => data(client.POST("/api/threads", { body })),
    onSuccess: (thread) => {
      cache.setQueryData(threadKeys.one(thread.thread_id), thread);
      return cache.invalidateQueries({ queryKey: [...threadKeys.all, "list"] });
    },
  });
}

export function useRenameThread() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: ({ id, title }: { id: string; title: string }) =>
      data(client.PATCH("/api/threads/{thread_id}", { params: { path: { thread_id: id } }, body: { title } })),
    onSuccess: (thread) => {
      cache.setQueryData(threadKeys.one(thread.thread_id), thread);
      return cache.invalidateQueries({ queryKey: [...threadKeys.all, "list"] });
    },
  });
}

export function useDeleteThread() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => data(client.DELETE("/api/threads/{thread_id}", { params: { path: { thread_id: id } } })),
    onSuccess: (_, id) => {
      cache.removeQueries({ queryKey: threadKeys.one(id) });
      cache.setQueriesData<InfiniteData<ThreadPage>>({ queryKey: [...threadKeys.all, "list"] }, (lists) =>
        lists && { ...lists, pages: lists.pages.map((page) => ({ ...page, items: page.items.filter((one) => one.thread_id !== id) })) },
      );
      return cache.invalidateQueries({ queryKey: [...threadKeys.all, "list"] });
    },
  });
}
