/** A thread as the list of entries it is drawn from. Pure: messages, approvals and runs in, entries out. */
import type { Approval, Message, Run } from "@/api/types";
import { isTerminal, type LiveTool, type Partial } from "./run-state";

export type ToolState =
  | "input-streaming"
  | "input-available"
  | "approval-requested"
  | "approval-responded"
  | "output-available"
  | "output-error"
  | "output-denied";

/** A message on its way: made here, not yet confirmed. */
export interface Outgoing {
  messageId: string;
  content: string;
  at: string;
  model: string;
  ifBusy: "enqueue" | "interrupt";
  /** Set when sending failed for good. */
  error?: Error;
}

export interface UserEntry {
  kind: "user";
  key: string;
  message: Message;
  /** The run that has yet to begin, for a message that waits its turn. */
  queued?: Run;
}

export interface OutgoingEntry {
  kind: "outgoing";
  key: string;
  outgoing: Outgoing;
}

export interface AnswerEntry {
  kind: "answer";
  key: string;
  message: Message;
}

export interface WritingEntry {
  kind: "writing";
  key: string;
  partial: Partial;
}

export interface ToolEntry {
  kind: "tool";
  key: string;
  callId: string;
  name: string;
  /** JSON text, maybe unfinished. */
  arguments: string;
  streaming: boolean;
  /** When the model asked for it. */
  asked: string | null;
  result?: Message;
  approval?: Approval;
  run?: Run;
}

export interface EndEntry {
  kind: "end";
  key: string;
  run: Run;
  /** A later run tries this one again, so it offers no Retry. */
  retried: boolean;
}

export type Entry = UserEntry | OutgoingEntry | AnswerEntry | WritingEntry | ToolEntry | EndEntry;

/** Messages by id, later lists winning, in their order; what has no place yet stands last. */
export function mergeMessages(...lists: readonly (readonly Message[])[]): Message[] {
  const byId = new Map<string, Message>();
  for (const message of lists.flat()) byId.set(message.message_id, message);
  const place = (message: Message) => message.seq ?? Number.MAX_SAFE_INTEGER;
  return [...byId.values()].sort((one, other) => place(one) - place(other) || one.created_at.localeCompare(other.created_at));
}

export interface ThreadRows {
  messages: readonly Message[];
  approvals: readonly Approval[];
  runs: readonly Run[];
}

/** Where each unhappy run ends: after its last message, or after the one it was to answer. */
function ends(messages: readonly Message[], runs: readonly Run[]): Map<string, Run[]> {
  const last = new Map<string, Run[]>();
  for (const run of runs.toReversed()) {
    if (!isTerminal(run.status) || run.status === "completed") continue;
    const message =
      messages.findLast((one) => one.run_id === run.run_id && one.role !== "user") ?? messages.find((one) => one.message_id === run.input_message_id);
    if (message) last.set(message.message_id, [...(last.get(message.message_id) ?? []), run]);
  }
  return last;
}

export function buildEntries({ messages, approvals, runs }: ThreadRows): Entry[] {
  const entries: Entry[] = [];
  const open = new Map<string, ToolEntry>();
  const approvalOf = new Map(approvals.map((approval) => [approval.call_id, approval]));
  const runOf = new Map(runs.map((run) => [run.run_id, run]));
  const endsAfter = ends(messages, runs);
  const retried = new Set(runs.map((run) => run.retry_of));
  let closing: Run[] = [];
  const close = () => {
    for (const run of closing) entries.push({ kind: "end", key: `e:${run.run_id}`, run, retried: retried.has(run.run_id) });
    closing = [];
  };
  for (const message of messages) {
    if (message.role !== "tool") close();
    if (message.role === "user") {
      const queued = message.seq === null ? runs.find((run) => run.input_message_id === message.message_id && run.status === "queued") : undefined;
      entries.push({ kind: "user", key: `m:${message.message_id}`, message, queued });
    } else if (message.role === "assistant") {
      entries.push({ kind: "answer", key: `m:${message.message_id}`, message });
      (message.tool_calls ?? []).forEach((call, at) => {
        const entry: ToolEntry = {
          kind: "tool",
          key: `t:${message.message_id}:${at}`,
          callId: call.id,
          name: call.name,
          arguments: call.arguments,
          streaming: false,
          asked: message.created_at,
          approval: approvalOf.get(call.id),
          run: message.run_id ? runOf.get(message.run_id) : undefined,
        };
        entries.push(entry);
        open.set(call.id, entry);
      });
    } else {
      addResult(entries, open, message);
    }
    closing.push(...(endsAfter.get(message.message_id) ?? []));
  }
  close();
  return entries;
}

/** A result joins its call; one whose call lies on a page not read yet stands alone. */
function addResult(entries: Entry[], open: Map<string, ToolEntry>, message: Message): void {
  const call = message.tool_call_id ? open.get(message.tool_call_id) : undefined;
  if (call) {
    call.result = message;
    open.delete(call.callId);
    return;
  }
  entries.push({
    kind: "tool",
    key: `m:${message.message_id}`,
    callId: message.tool_call_id ?? "",
    name: message.tool_name ?? "",
    arguments: "",
    streaming: false,
    asked: null,
    result: message,
  });
}

/** What is being written, as the entries it will become: their keys are those of the saved ones. */
export function writingEntries(partial: Partial): Entry[] {
  const calls = [...partial.calls].sort((one, other) => one.index - other.index);
  return [
    { kind: "writing", key: `m:${partial.messageId}`, partial },
    ...calls.map(
      (call, at): ToolEntry => ({
        kind: "tool",
        key: `t:${partial.messageId}:${at}`,
        callId: call.id,
        name: call.name,
        arguments: call.arguments,
        streaming: true,
        asked: partial.at,
      }),
    ),
  ];
}

export function toolState(entry: ToolEntry): ToolState {
  if (entry.streaming) return "input-streaming";
  if (entry.result) {
    if (entry.result.status === "ok") return "output-available";
    return entry.result.status === "denied" ? "output-denied" : "output-error";
  }
  if (entry.approval?.status === "pending") return "approval-requested";
  if (entry.approval) return "approval-responded";
  return "input-available";
}

/** A running tool that the state knows, for an entry that has no result yet. */
export const liveOf = (entry: ToolEntry, tools: Readonly<Record<string, LiveTool>>): LiveTool | undefined =>
  entry.result ? undefined : tools[entry.callId];

const argumentOrder = ["command", "path", "query", "pattern", "url", "process_id", "process", "name", "text", "input"];

/** A string value of unfinished JSON, as far as it is written. */
function partialString(json: string, name: string): string | undefined {
  const match = new RegExp(`"${name}"\\s*:\\s*"((?:[^"\\\\]|\\\\.)*)`, "s").exec(json);
  if (!match) return undefined;
  try {
    return JSON.parse(`"${match[1]}"`) as string;
  } catch {
    return match[1];
  }
}

export function parseArguments(json: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json || "{}");
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

const oneLine = (text: string): string => (text.split("\n", 1)[0] ?? "").replace(/[\x00-\x1f\x7f]/g, "");

/** The argument that says most about a call, on one line: a command, a path, a question. */
export function headline(json: string): string {
  const parsed = parseArguments(json);
  for (const name of argumentOrder) {
    const value = parsed ? parsed[name] : partialString(json, name);
    if (typeof value === "string" && value) return oneLine(value);
  }
  if (!parsed) return json.slice(0, 200);
  const first = Object.entries(parsed)[0];
  return first ? `${first[0]} ${typeof first[1] === "string" ? first[1] : JSON.stringify(first[1])}` : "";
}
