"use client";

import { useMutation, useQuery, useQueryClient, type QueryClient } from "@tanstack/react-query";

import { client, data } from "../client";
import type { ModelPrice, ProviderUpdate } from "../types";

export const inferenceKeys = {
  all: ["inference"] as const,
  providers: ["inference", "providers"] as const,
  models: ["inference", "models"] as const,
  settings: ["inference", "settings"] as const,
};

/** Every provider as it stands. The server asks a local one whether it runs, each time; `watch` has it asked again every few seconds. */
export const useProviders = (watch = false) =>
  useQuery({
    queryKey: inferenceKeys.providers,
    queryFn: ({ signal }) => data(client.GET("/api/inference/providers", { signal })),
    ...(watch ? { refetchInterval: 5_000 } : {}),
  });

export const useModels = () =>
  useQuery({
    queryKey: inferenceKeys.models,
    queryFn: ({ signal }) => data(client.GET("/api/inference/models", { signal })),
    staleTime: 60_000,
  });

export const useInferenceSettings = (enabled = true) =>
  useQuery({
    queryKey: inferenceKeys.settings,
    enabled,
    queryFn: ({ signal }) => data(client.GET("/api/inference/settings", { signal })),
  });

const refresh = (cache: QueryClient) => cache.invalidateQueries({ queryKey: inferenceKeys.all });

export function useSetProvider() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: ({ name, update }: { name: string; update: ProviderUpdate }) =>
      data(client.PUT("/api/inference/providers/{name}", { params: { path: { name } }, body: update })),
    onSuccess: () => refresh(cache),
  });
}

export function useRemoveProvider() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => data(client.DELETE("/api/inference/providers/{name}", { params: { path: { name } } })),
    onSuccess: () => refresh(cache),
  });
}

/** A real call to the vendor, with what is typed or, when nothing is, with what is stored. */
export function useTestProvider() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: ({ name, update }: { name: string; update: ProviderUpdate }) =>
      data(client.POST("/api/inference/providers/{name}/test", { params: { path: { name } }, body: update })),
    onSuccess: () => refresh(cache),
  });
}

export function useSetPrice() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (price: ModelPrice) => data(client.PUT("/api/inference/models/price", { body: price })),
    onSuccess: () => cache.invalidateQueries({ queryKey: inferenceKeys.models }),
  });
}

export function useSetDefaultModel() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (default_model: string | null) => data(client.PUT("/api/inference/settings", { body: { default_model } })),
    onSuccess: (settings) => cache.setQueryData(inferenceKeys.settings, settings),
  });
}
