import createClient from "openapi-fetch";

import { Problem } from "./problem";
import type { paths } from "./schema";

/** How many requests in a row nobody answered: the shell shows it as the connection's state. */
let unanswered = 0;
const watchers = new Set<() => void>();

function note(answered: boolean): void {
  const before = unanswered > 0;
  unanswered = answered ? 0 : unanswered + 1;
  if (before !== unanswered > 0) for (const watch of watchers) watch();
}

export const connection = {
  subscribe(watch: () => void): () => void {
    watchers.add(watch);
    return () => watchers.delete(watch);
  },
  isLost: () => unanswered > 0,
};

async function reach(request: Request): Promise<Response> {
  try {
    const response = await fetch(request);
    note(true);
    return response;
  } catch (error) {
    if (request.signal.aborted) throw error;
    note(false);
    throw new Problem(0, "The server does not answer", "The server does not answer. Is it running? Nothing was changed by this page.");
  }
}

export const client = createClient<paths>({
  baseUrl: typeof window === "undefined" ? "http://localhost" : window.location.origin,
  fetch: reach,
});

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** The data of an answer; a refusal becomes a thrown `Problem`. */
export async function data<T>(call: Promise<Answer<T>>): Promise<T> {
  const answer = await call;
  if (!answer.response.ok) throw Problem.of(answer.response, answer.error);
  return answer.data as T;
}

/** The data together with the ETag that a later change has to name. */
export async function tagged<T>(call: Promise<Answer<T>>): Promise<{ value: T; etag: string }> {
  const answer = await call;
  if (!answer.response.ok) throw Problem.of(answer.response, answer.error);
  return { value: answer.data as T, etag: answer.response.headers.get("ETag") ?? "" };
}
