"use client";

import { useQuery } from "@tanstack/react-query";

import { client, data } from "../client";

export const fileKeys = {
  all: (threadId: string) => ["files", threadId] as const,
  folder: (threadId: string, path: string) => ["files", threadId, "folder", path] as const,
  text: (threadId: string, path: string) => ["files", threadId, "text", path] as const,
};

export const useFolder = (threadId: string, path: string, enabled: boolean) =>
  useQuery({
    queryKey: fileKeys.folder(threadId, path),
    queryFn: ({ signal }) =>
      data(client.GET("/api/threads/{thread_id}/files", { params: { path: { thread_id: threadId }, query: { path } }, signal })),
    enabled,
    placeholderData: (before) => before,
  });

export const fileUrl = (threadId: string, path: string): string =>
  `/api/threads/${encodeURIComponent(threadId)}/files/content?path=${encodeURIComponent(path)}`;

const readFile = (threadId: string, path: string, signal: AbortSignal): Promise<ArrayBuffer> =>
  data(
    client.GET("/api/threads/{thread_id}/files/content", {
      params: { path: { thread_id: threadId }, query: { path } },
      parseAs: "arrayBuffer",
      signal,
    }),
  ) as Promise<ArrayBuffer>;

/** A file as text; null when it is not text. */
export const useFileText = (threadId: string, path: string) =>
  useQuery({
    queryKey: fileKeys.text(threadId, path),
    queryFn: async ({ signal }) => {
      const bytes = await readFile(threadId, path, signal);
      try {
        const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
        return text.includes("\0") ? null : text;
      } catch {
        return null;
      }
    },
  });

/** A file as bytes with a type: the server sends every file as a download without one. */
export const useFileBlob = (threadId: string, path: string, type: string) =>
  useQuery({
    queryKey: [...fileKeys.all(threadId), "blob", path],
    queryFn: async ({ signal }) => new Blob([await readFile(threadId, path, signal)], { type }),
  });
