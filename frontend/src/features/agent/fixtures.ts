/** A made-up agent for the tests of this folder. */
import type { AgentConfig } from "@/api/types";

export const config = (change: Partial<AgentConfig> = {}): AgentConfig => ({
  name: "Meridian",
  system_prompt: "",
  model: { provider: "", name: "" },
  tools: [],
  triggers: [],
  mcp: [],
  limits: { max_steps: 50, max_seconds: 3600, context_tokens: 60_000 },
  ...change,
});
