import { QueryClient, type QueryKey } from "@tanstack/react-query";

import { Problem } from "./problem";

/** Reads are tried again only when nobody answered or the answer was a passing fault; a refusal is final. */
function worthRetrying(failures: number, error: unknown): boolean {
  if (failures >= 2) return false;
  if (!(error instanceof Problem)) return true;
  return error.status === 0 || error.status === 502 || error.status === 504;
}

export function newQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: { staleTime: 15_000, retry: worthRetrying, refetchOnWindowFocus: true },
      mutations: { retry: false },
    },
  });
}

/**
 * Reads everything under `queryKey` again. An answer that is already on its way may be older than what made this necessary; when it is the first
 * one, `invalidateQueries` alone would let it stand.
 */
export async function readAgain(cache: QueryClient, queryKey: QueryKey): Promise<void> {
  await cache.cancelQueries({ queryKey });
  await cache.invalidateQueries({ queryKey });
}
