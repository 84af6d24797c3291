import type { QueryClient } from "@tanstack/react-query";

export interface ProblemDetail {
  loc?: (string | number)[] | string | null;
  line?: number | null;
  column?: number | null;
  message: string;
}

interface ProblemBody {
  title?: string;
  detail?: string | null;
  request_id?: string | null;
  setting?: string | null;
  errors?: ProblemDetail[] | null;
}

/** What the API answered instead of what was asked for (RFC 9457), or that it did not answer at all (status 0). */
export class Problem extends Error {
  override name = "Problem";
  readonly requestId: string | undefined;
  readonly setting: string | undefined;
  readonly errors: readonly ProblemDetail[];

  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail?: string,
    rest: { requestId?: string | null; setting?: string | null; errors?: readonly ProblemDetail[] | null } = {},
  ) {
    super(detail || title);
    this.requestId = rest.requestId ?? undefined;
    this.setting = rest.setting ?? undefined;
    this.errors = rest.errors ?? [];
  }

  static of(response: Response, body: unknown): Problem {
    const told = (typeof body === "object" && body !== null ? body : {}) as ProblemBody;
    return new Problem(response.status, told.title ?? `HTTP ${response.status}`, told.detail ?? undefined, {
      requestId: told.request_id ?? response.headers.get("X-Request-Id"),
      setting: told.setting,
      errors: told.errors,
    });
  }
}

export const isProblem = (error: unknown, status?: number): error is Problem =>
  error instanceof Problem && (status === undefined || error.status === status);

/** Called on sign-out and when the session has ended: nothing of the last person stays in memory. */
export function forgetEverything(client: QueryClient): void {
  client.cancelQueries().catch(() => undefined);
  client.clear();
}
