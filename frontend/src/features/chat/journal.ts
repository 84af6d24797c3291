/** What a run's journal keeps of its model calls: why that model was asked, and what it was sent. Pure. */
import type { components } from "@/api/schema";
import type { Step } from "@/api/types";

/** What a model call is sent, in estimated tokens by part. */
export type Context = Pick<components["schemas"]["ContextBuilt"], "parts" | "total" | "limit" | "dropped">;

/** Empty for what an older journal did not keep. */
export interface Asked {
  reason?: string;
  context?: Context;
}

export function askedOf(step: Step | undefined): Asked {
  const { reason, context } = step?.detail ?? {};
  return {
    ...(typeof reason === "string" && reason ? { reason } : {}),
    ...(typeof context === "object" && context !== null && "parts" in context ? { context: context as Context } : {}),
  };
}

/** What the last model call of these steps was sent. */
export function lastContext(steps: readonly Step[]): Context | null {
  const calls = steps.filter((step) => step.kind === "model_call" && askedOf(step).context);
  return askedOf(calls.sort((one, other) => one.number - other.number).at(-1)).context ?? null;
}
