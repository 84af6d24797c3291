"use client";

import { queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";

import { client, data } from "../client";
import { forgetEverything } from "../problem";
import type { components } from "../schema";

type Schemas = components["schemas"];

export const sessionKeys = { config: ["config"], me: ["me"], apiKeys: ["api-keys"] } as const;

export const configQuery = queryOptions({
  queryKey: sessionKeys.config,
  queryFn: ({ signal }) => data(client.GET("/api/config", { signal })),
  staleTime: 60_000,
});

export const useConfig = () => useQuery(configQuery);

export const useMe = (enabled = true) =>
  useQuery({
    queryKey: sessionKeys.me,
    queryFn: ({ signal }) => data(client.GET("/api/auth/me", { signal })),
    staleTime: 60_000,
    enabled,
  });

function useSignIn<T>(act: (body: T) => Promise<Schemas["Me"]>) {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: act,
    onSuccess: (me) => {
      cache.setQueryData(sessionKeys.me, me);
      return cache.invalidateQueries({ queryKey: sessionKeys.config });
    },
  });
}

export const useSetup = () => useSignIn((body: Schemas["Setup"]) => data(client.POST("/api/auth/setup", { body })));

export const useLogin = () => useSignIn((body: Schemas["Login"]) => data(client.POST("/api/auth/login", { body })));

export function useLogout() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: () => data(client.POST("/api/auth/logout")),
    onSuccess: () => forgetEverything(cache),
  });
}

export function useUpdateMe() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (body: Schemas["ProfileUpdate"]) => data(client.PATCH("/api/auth/me", { body })),
    onSuccess: (me) => cache.setQueryData(sessionKeys.me, me),
  });
}

export const useApiKeys = () =>
  useQuery({
    queryKey: sessionKeys.apiKeys,
    queryFn: ({ signal }) => data(client.GET("/api/accounts/api-keys", { signal })),
  });

export function useCreateApiKey() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => data(client.POST("/api/accounts/api-keys", { body: { name, scopes: ["read", "write", "approve", "manage"] } })),
    onSuccess: () => cache.invalidateQueries({ queryKey: sessionKeys.apiKeys }),
  });
}

export function useRevokeApiKey() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (key_id: string) => data(client.DELETE("/api/accounts/api-keys/{key_id}", { params: { path: { key_id } } })),
    onSuccess: () => cache.invalidateQueries({ queryKey: sessionKeys.apiKeys }),
  });
}
