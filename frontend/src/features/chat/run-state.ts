/** What is known of a run that is being watched, as a pure function of its events. `stream.snapshot` sets it, the rest applies. */
import type { PlacedEvent, RunEvent } from "@/api/run-events";
import type { components } from "@/api/schema";
import type { Approval, Message, Run, Step } from "@/api/types";
import { lastContext, type Context } from "./journal";

type Schemas = components["schemas"];
type Effect = Schemas["ToolCalled"]["effect"];

/** A running tool prints at most this much into the page; the rest is in its log. */
export const outputLimit = 200_000;

/** The assistant's message while it is written. */
export interface Partial {
  messageId: string;
  /** When its model call began; unknown after a snapshot. */
  at: string | null;
  content: string;
  reasoning: string;
  calls: readonly Schemas["PartialCall"][];
}

/** A tool that runs. */
export interface LiveTool {
  name: string;
  effect: Effect;
  at: string | null;
  output: string;
  progress: string;
}

export interface RunState {
  /** The last event taken in, so that one told twice counts once. */
  cursor: { generation: string; n: number } | null;
  run: Run | null;
  messages: readonly Message[];
  steps: readonly Step[];
  approvals: readonly Approval[];
  partial: Partial | null;
  tools: Readonly<Record<string, LiveTool>>;
  context: Context | null;
  routed: Schemas["InferenceRouted"] | null;
  /** Why the answer is being written anew, while it is. */
  restart: { reason: string; retryInMs: number } | null;
  title: string | null;
  /** How many files were written: a change asks for the folder again. */
  written: number;
  finished: boolean;
}

export const emptyRun: RunState = {
  cursor: null,
  run: null,
  messages: [],
  steps: [],
  approvals: [],
  partial: null,
  tools: {},
  context: null,
  routed: null,
  restart: null,
  title: null,
  written: 0,
  finished: false,
};

const terminal: ReadonlySet<Run["status"]> = new Set(["completed", "failed", "stopped", "timed_out"]);
export const isTerminal = (status: Run["status"]): boolean => terminal.has(status);

function put<T>(list: readonly T[], one: T, same: (other: T) => boolean): readonly T[] {
  const at = list.findIndex(same);
  return at === -1 ? [...list, one] : list.with(at, one);
}

const tail = (text: string): string => (text.length > outputLimit ? text.slice(-outputLimit) : text);

/** The tools that run: those the snapshot has an output for, be it empty, and those the journal saw begin. What has returned runs no more. */
function runningTools({ messages, steps, outputs = {} }: Schemas["StreamSnapshot"]): Record<string, LiveTool> {
  const returned = new Set(messages.map((message) => message.tool_call_id));
  const calls = new Map(messages.flatMap((message) => message.tool_calls ?? []).map((call) => [call.id, call.name]));
  const journal = new Map(steps.flatMap((step) => (step.kind === "tool_call" && step.call_id ? [[step.call_id, step] as const] : [])));
  const begun = [...journal.values()].flatMap((step) => (step.status === "started" && step.call_id ? [step.call_id] : []));
  const running = new Set([...Object.keys(outputs), ...begun]);
  return Object.fromEntries(
    [...running].filter((callId) => !returned.has(callId)).map((callId) => {
      const step = journal.get(callId);
      const tool: LiveTool = {
        name: calls.get(callId) ?? step?.name ?? "",
        effect: step?.effect ?? "once",
        at: step?.started_at ?? null,
        output: tail(outputs[callId] ?? ""),
        progress: "",
      };
      return [callId, tool];
    }),
  );
}

function fromSnapshot(state: RunState, event: Schemas["StreamSnapshot"]): RunState {
  const { run, partial } = event;
  const waits = event.approvals.some((approval) => approval.status === "pending") && !isTerminal(run.status);
  return {
    ...state,
    run: waits ? { ...run, status: "waiting_approval" } : run,
    messages: event.messages,
    steps: event.steps,
    approvals: event.approvals,
    partial: partial ? {
      messageId: partial.message_id,
      at: null,
      content: partial.content,
      reasoning: partial.reasoning,
      calls: partial.tool_calls,
    } : null,
    tools: runningTools(event),
    context: lastContext(event.steps) ?? state.context,
    restart: null,
    finished: isTerminal(run.status),
  };
}

const withRun = (state: RunState, change: globalThis.Partial<Run>): RunState =>
  state.run ? { ...state, run: { ...state.run, ...change } } : state;

const withPartial = (state: RunState, change: (partial: Partial) => Partial): RunState =>
  state.partial ? { ...state, partial: change(state.partial) } : state;

function withTool(state: RunState, callId: string, change: (tool: LiveTool) => LiveTool): RunState {
  const tool = state.tools[callId];
  return tool ? { ...state, tools: { ...state.tools, [callId]: change(tool) } } : state;
}

function withArguments(partial: Partial, event: Schemas["ToolArgumentsDelta"]): Partial {
  const known = partial.calls.find((call) => call.index === event.index);
  const call = {
    index: event.index,
    id: event.id || (known?.id ?? ""),
    name: event.name || (known?.name ?? ""),
    arguments: (known?.arguments ?? "") + event.text,
  };
  return { ...partial, calls: put(partial.calls, call, (other) => other.index === event.index) };
}

function withMessage(state: RunState, message: Message): readonly Message[] {
  return put(state.messages, message, (other) => other.message_id === message.message_id);
}

/** Waiting or running, told by what still waits for an answer. */
function withApproval(state: RunState, approval: Approval): RunState {
  const approvals = put(state.approvals, approval, (other) => other.approval_id === approval.approval_id);
  const waits = approvals.some((one) => one.status === "pending");
  const status = state.run && !isTerminal(state.run.status) ? (waits ? "waiting_approval" : "running") : state.run?.status;
  return withRun({ ...state, approvals }, status ? { status } : {});
}

function apply(state: RunState, event: RunEvent): RunState {
  switch (event.type) {
    case "stream.snapshot":
      return fromSnapshot(state, event);
    case "run.queued":
      return withRun(state, { status: "queued", place: event.place });
    case "run.started":
      return withRun(state, { status: "running", place: null, started_at: state.run?.started_at ?? event.at });
    case "context.built":
      return { ...state, context: event };
    case "inference.routed":
      return { ...state, routed: event };
    case "message.started":
      return { ...state, restart: null, partial: { messageId: event.message_id, at: event.at, content: "", reasoning: "", calls: [] } };
    case "message.delta":
      return withPartial({ ...state, restart: null }, (partial) => ({ ...partial, content: partial.content + event.text }));
    case "reasoning.delta":
      return withPartial({ ...state, restart: null }, (partial) => ({ ...partial, reasoning: partial.reasoning + event.text }));
    case "message.restarted":
      return {
        ...state,
        restart: { reason: event.reason, retryInMs: event.retry_in_ms },
        partial: { messageId: event.message_id, at: state.partial?.at ?? null, content: "", reasoning: "", calls: [] },
      };
    case "message.completed":
      return { ...state, messages: withMessage(state, event.message), partial: null, restart: null };
    case "tool.arguments_delta":
      return withPartial({ ...state, restart: null }, (partial) => withArguments(partial, event));
    case "tool.called":
      return {
        ...state,
        tools: { ...state.tools, [event.call_id]: { name: event.name, effect: event.effect, at: event.at, output: "", progress: "" } },
      };
    case "tool.output":
      return withTool(state, event.call_id, (tool) => ({ ...tool, output: tail(tool.output + event.text) }));
    case "tool.progress":
      return withTool(state, event.call_id, (tool) => ({ ...tool, progress: event.text }));
    case "tool.returned": {
      const { [event.call_id]: _, ...tools } = state.tools;
      return { ...state, tools, messages: withMessage(state, event.message) };
    }
    case "artifact.created":
      return { ...state, written: state.written + 1 };
    case "approval.requested":
    case "approval.decided":
      return withApproval(state, event.approval);
    case "usage.updated": {
      const { type: _, ...usage } = event;
      return withRun(state, usage);
    }
    case "run.finished":
      return withRun(
        { ...state, finished: true, partial: null, tools: {}, restart: null, title: event.title ?? state.title },
        { status: event.status, problem: event.problem, place: null },
      );
    default:
      // A newer server may tell more than this page knows.
      return state;
  }
}

function place(id: string): { generation: string; n: number } {
  const dash = id.lastIndexOf("-");
  return { generation: id.slice(0, dash), n: Number(id.slice(dash + 1)) };
}

const older = (one: string, other: string): boolean => /^\d+$/.test(one) && /^\d+$/.test(other) && Number(one) < Number(other);

/** The state after an event. One of the past, or of a generation that did not open with its snapshot, changes nothing. */
export function applyEvent(state: RunState, { id, event }: PlacedEvent): RunState {
  const here = place(id);
  const { cursor } = state;
  if (cursor?.generation === here.generation) {
    if (here.n <= cursor.n) return state;
  } else if (event.type !== "stream.snapshot" || (cursor && older(here.generation, cursor.generation))) {
    return state;
  }
  return { ...apply(state, event), cursor: here };
}

export const applyEvents = (state: RunState, events: readonly PlacedEvent[]): RunState => events.reduce(applyEvent, state);
