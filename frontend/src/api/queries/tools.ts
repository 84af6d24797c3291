"use client";

import { useQuery } from "@tanstack/react-query";

import { client, data } from "../client";

export const useTools = () =>
  useQuery({ queryKey: ["tools"], queryFn: ({ signal }) => data(client.GET("/api/tools", { signal })), staleTime: 60_000 });
