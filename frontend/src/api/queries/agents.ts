"use client";

import { useInfiniteQuery, useMutation, useQuery, useQueryClient, type QueryClient } from "@tanstack/react-query";

import { client, data, tagged } from "../client";
import type { Agent, AgentConfig, Draft } from "../types";

export const agentKeys = {
  all: ["agents"] as const,
  list: (q: string) => ["agents", "list", q] as const,
  one: (id: string) => ["agents", "one", id] as const,
  draft: (id: string) => ["agents", "one", id, "draft"] as const,
  versions: (id: string) => ["agents", "one", id, "versions"] as const,
  diff: (id: string, number: number, against: string) => ["agents", "one", id, "diff", number, against] as const,
  rules: (id: string) => ["agents", "one", id, "rules"] as const,
};

const at = (agent_id: string) => ({ params: { path: { agent_id } } });

export const useAgents = (q = "") =>
  useInfiniteQuery({
    queryKey: agentKeys.list(q),
    queryFn: ({ pageParam, signal }) =>
      data(client.GET("/api/agents", { params: { query: { ...(q ? { q } : {}), ...(pageParam ? { cursor: pageParam } : {}) } }, signal })),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor ?? undefined,
    placeholderData: (before) => before,
  });

export const useAgent = (id: string) =>
  useQuery({ queryKey: agentKeys.one(id), queryFn: ({ signal }) => data(client.GET("/api/agents/{agent_id}", { ...at(id), signal })) });

export const useTemplates = () =>
  useQuery({
    queryKey: ["agents", "templates"],
    queryFn: ({ signal }) => data(client.GET("/api/agents/templates", { signal })),
    staleTime: Infinity,
  });

/** A draft and the ETag that saving it has to name. */
export interface TaggedDraft {
  value: Draft;
  etag: string;
}

export const readDraft = (id: string, signal?: AbortSignal): Promise<TaggedDraft> =>
  tagged(client.GET("/api/agents/{agent_id}/draft", { ...at(id), signal }));

/** Never refetched behind the editor's back: the editor holds the truth until it is saved. */
export const useDraft = (id: string) =>
  useQuery({
    queryKey: agentKeys.draft(id),
    queryFn: ({ signal }) => readDraft(id, signal),
    staleTime: Infinity,
    refetchOnWindowFocus: false,
    refetchOnReconnect: false,
    gcTime: 0,
  });

export type DraftContent = { config: AgentConfig } | { yaml: string };

export function useSaveDraft(id: string) {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: ({ content, etag }: { content: DraftContent; etag: string }) =>
      tagged(
        client.PUT("/api/agents/{agent_id}/draft", {
          params: { path: { agent_id: id }, header: etag ? { "if-match": etag } : {} },
          body: content,
        }),
      ),
    onSuccess: (saved) => {
      cache.setQueryData(agentKeys.draft(id), saved);
      void cache.invalidateQueries({ queryKey: agentKeys.one(id), exact: true });
      void cache.invalidateQueries({ queryKey: [...agentKeys.one(id), "diff"] });
    },
  });
}

async function refreshAgent(cache: QueryClient, id: string): Promise<void> {
  await Promise.all([
    cache.invalidateQueries({ queryKey: agentKeys.one(id) }),
    cache.invalidateQueries({ queryKey: [...agentKeys.all, "list"] }),
  ]);
}

export function useDiscardDraft(id: string) {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (etag: string) =>
      data(
        client.DELETE("/api/agents/{agent_id}/draft", {
          params: { path: { agent_id: id }, header: etag ? { "if-match": etag } : {} },
        }),
      ),
    onSuccess: () => refreshAgent(cache, id),
  });
}

export function usePublish(id: string) {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (note: string) => data(client.POST("/api/agents/{agent_id}/versions", { ...at(id), body: { note } })),
    onSuccess: () => refreshAgent(cache, id),
  });
}

export const useVersions = (id: string) =>
  useInfiniteQuery({
    queryKey: agentKeys.versions(id),
    queryFn: ({ pageParam, signal }) =>
      data(
        client.GET("/api/agents/{agent_id}/versions", {
          params: { path: { agent_id: id }, query: pageParam ? { cursor: pageParam } : {} },
          signal,
        }),
      ),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor ?? undefined,
  });

export const useDiff = (id: string, number: number, against: string, enabled = true) =>
  useQuery({
    queryKey: agentKeys.diff(id, number, against),
    queryFn: ({ signal }) =>
      data(
        client.GET("/api/agents/{agent_id}/versions/{number}/diff", {
          params: { path: { agent_id: id, number }, query: { against } },
          signal,
        }),
      ),
    enabled,
    staleTime: 0,
  });

export function useActivate(id: string) {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (number: number) =>
      data(client.POST("/api/agents/{agent_id}/versions/{number}/activate", { params: { path: { agent_id: id, number } } })),
    onSuccess: () => refreshAgent(cache, id),
  });
}

function useNewAgent<T>(act: (body: T) => Promise<Agent>) {
  const cache = useQueryClient();
  return useMutation({ mutationFn: act, onSuccess: () => cache.invalidateQueries({ queryKey: [...agentKeys.all, "list"] }) });
}

export const useCreateAgent = () => useNewAgent((config: AgentConfig) => data(client.POST("/api/agents", { body: { config } })));

export const useImportAgent = () => useNewAgent((yaml: string) => data(client.POST("/api/agents/import", { body: { yaml } })));

export const useDuplicateAgent = () =>
  useNewAgent(({ id, name }: { id: string; name?: string }) =>
    data(client.POST("/api/agents/{agent_id}/duplicate", { ...at(id), body: name ? { name } : {} })),
  );

export function useDeleteAgent() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => data(client.DELETE("/api/agents/{agent_id}", at(id))),
    onSuccess: (_, id) => {
      cache.removeQueries({ queryKey: agentKeys.one(id) });
      return Promise.all([
        cache.invalidateQueries({ queryKey: [...agentKeys.all, "list"] }),
        cache.invalidateQueries({ queryKey: ["threads"] }),
      ]);
    },
  });
}

export const checkYaml = (yaml: string, signal?: AbortSignal) => data(client.POST("/api/agents/validate", { body: { yaml }, signal }));

/** The YAML of the active version, or of another one. */
export const exportYaml = (id: string, version?: number): Promise<string> =>
  data(
    client.GET("/api/agents/{agent_id}/export", {
      params: { path: { agent_id: id }, query: version === undefined ? {} : { version } },
      parseAs: "text",
    }),
  );

export const useRules = (id: string) =>
  useQuery({
    queryKey: agentKeys.rules(id),
    queryFn: ({ signal }) => data(client.GET("/api/agents/{agent_id}/rules", { ...at(id), signal })),
  });

export function useDeleteRule(id: string) {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (rule_id: string) =>
      data(client.DELETE("/api/agents/{agent_id}/rules/{rule_id}", { params: { path: { agent_id: id, rule_id } } })),
    onSuccess: () => cache.invalidateQueries({ queryKey: agentKeys.rules(id) }),
  });
}
