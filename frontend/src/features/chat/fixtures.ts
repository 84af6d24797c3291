/** Made-up rows and a made-up run for the tests of this folder. */
import type { PlacedEvent, RunEvent } from "@/api/run-events";
import type { Approval, Message, Receipt, Run, Step } from "@/api/types";

const at = "2026-11-22T14:28:00Z";

export const uuid = (n: number): string => `00000000-0000-7000-8000-${String(n).padStart(12, "0")}`;

export const receipt = (change: Partial<Receipt> = {}): Receipt => ({
  provider: "anthropic",
  kind: "centralized",
  model: "claude-sonnet-4.5",
  input_tokens: 1021,
  output_tokens: 183,
  cached_tokens: 840,
  reasoning_tokens: 0,
  estimated: false,
  cost_micro_usd: 4200,
  duration_ms: 3100,
  first_token_ms: 600,
  stop_reason: "end",
  upstream_id: null,
  exit_code: null,
  truncated: false,
  log_path: null,
  ...change,
});

export const message = (change: Partial<Message> = {}): Message => ({
  message_id: uuid(1),
  thread_id: uuid(900),
  run_id: uuid(800),
  parent_id: null,
  seq: 1,
  role: "user",
  content: "Hello",
  reasoning: "",
  tool_calls: [],
  tool_call_id: null,
  tool_name: null,
  status: "ok",
  receipt: null,
  created_at: at,
  ...change,
});

export const run = (change: Partial<Run> = {}): Run => ({
  run_id: uuid(800),
  thread_id: uuid(900),
  agent_id: uuid(700),
  version: 1,
  status: "running",
  model: null,
  input_message_id: uuid(1),
  retry_of: null,
  place: null,
  stop_requested: false,
  problem: null,
  steps: 0,
  losses: 0,
  input_tokens: 0,
  output_tokens: 0,
  cached_tokens: 0,
  cost_micro_usd: 0,
  cost_known: true,
  created_at: at,
  started_at: at,
  finished_at: null,
  ...change,
});

export const step = (change: Partial<Step> = {}): Step => ({
  step_id: uuid(600),
  number: 1,
  kind: "tool_call",
  name: "shell",
  call_id: "call-1",
  message_id: null,
  effect: "once",
  status: "started",
  attempts: 1,
  cost_micro_usd: null,
  usage: null,
  detail: null,
  started_at: at,
  finished_at: null,
  ...change,
});

export const approval = (change: Partial<Approval> = {}): Approval => ({
  approval_id: uuid(500),
  run_id: uuid(800),
  thread_id: uuid(900),
  agent_id: uuid(700),
  agent_name: "Meridian",
  call_id: "call-1",
  action: "shell",
  arguments: { command: "rm -rf build" },
  act_hash: "7f3a8b0c9d1e2f3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90c21e",
  reason: "",
  pattern: { command: "rm -rf build" },
  status: "pending",
  note: "",
  created_at: at,
  expires_at: "2026-11-23T14:28:00Z",
  decided_at: null,
  ...change,
});

export const placed = (id: string, event: RunEvent): PlacedEvent => ({ id, event });
