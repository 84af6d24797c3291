"use client";

import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";

import { client, data } from "../client";
import type { Approval, Decision } from "../types";

export const approvalKeys = { all: ["approvals"] as const, pending: ["approvals", "pending"] as const, decided: ["approvals", "decided"] as const };

/** What waits for a person. Polled: the number stands in the rail on every page. */
export const usePendingApprovals = () =>
  useQuery({
    queryKey: approvalKeys.pending,
    queryFn: ({ signal }) => data(client.GET("/api/approvals", { params: { query: { status: "pending", limit: 100 } }, signal })),
    refetchInterval: 10_000,
  });

export const useApprovals = () =>
  useInfiniteQuery({
    queryKey: approvalKeys.decided,
    queryFn: ({ pageParam, signal }) =>
      data(client.GET("/api/approvals", { params: { query: { limit: 50, ...(pageParam ? { cursor: pageParam } : {}) } }, signal })),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor ?? undefined,
  });

/** Every act that a thread's runs asked about, so that decisions stay where they were made. */
export const useThreadApprovals = (threadId: string) =>
  useQuery({
    queryKey: [...approvalKeys.all, "thread", threadId],
    queryFn: ({ signal }) => data(client.GET("/api/approvals", { params: { query: { thread_id: threadId, limit: 200 } }, signal })),
    staleTime: 30_000,
  });

/** A decision is bound to the hash of the act that was shown. */
export function useDecide() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: ({ approval, ...answer }: { approval: Approval } & Pick<Decision, "decision"> & { always?: boolean; note?: string }) =>
      data(
        client.POST("/api/approvals/{approval_id}/decision", {
          params: { path: { approval_id: approval.approval_id } },
          body: { always: false, note: "", ...answer, act_hash: approval.act_hash },
        }),
      ),
    onSettled: () => cache.invalidateQueries({ queryKey: approvalKeys.all }),
  });
}
