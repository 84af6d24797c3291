"use client";

import { useQuery } from "@tanstack/react-query";

import { client } from "../client";
import { Problem } from "../problem";
import type { components } from "../schema";

type Ready = components["schemas"]["Ready"];

/** The product's parts. A 503 is an answer here: it names the part that fails. */
export const useHealth = (refetchInterval: number) =>
  useQuery({
    queryKey: ["health"],
    queryFn: async ({ signal }) => {
      const began = performance.now();
      const answer = await client.GET("/health/ready", { signal });
      const told = (answer.data ?? answer.error) as Ready | undefined;
      if (!told || !Array.isArray(told.parts)) throw Problem.of(answer.response, answer.error);
      return { ...told, tookMs: Math.round(performance.now() - began) };
    },
    refetchInterval,
  });
