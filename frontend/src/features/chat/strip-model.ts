/** A run as a line in time: what the run strip draws and says. Pure. */
import type { Approval, Message, Run } from "@/api/types";
import type { RunState } from "./run-state";

export type SegmentKind = "model" | "tool" | "change" | "wait";

export interface Segment {
  kind: SegmentKind;
  name: string;
  /** Milliseconds since 1970. */
  start: number;
  /** Null while it goes on. */
  end: number | null;
  failed: boolean;
}

export interface Strip {
  start: number;
  end: number;
  live: boolean;
  segments: Segment[];
}

/** Whether a tool's action changes the world. */
export type Changes = (action: string) => boolean;

const time = (iso: string): number => Date.parse(iso);

function ofMessage(message: Message, changes: Changes): Segment | undefined {
  if (message.role === "user" || !message.receipt) return undefined;
  const end = time(message.created_at);
  const start = end - message.receipt.duration_ms;
  const failed = message.status !== "ok" && message.status !== "partial";
  if (message.role === "assistant") return { kind: "model", name: message.receipt.model, start, end, failed };
  const name = message.tool_name ?? "";
  return { kind: changes(name) ? "change" : "tool", name, start, end, failed };
}

function ofApproval(approval: Approval): Segment {
  const pending = approval.status === "pending";
  return {
    kind: "wait",
    name: approval.action,
    start: time(approval.created_at),
    end: pending ? null : time(approval.decided_at ?? approval.expires_at),
    failed: approval.status === "denied" || approval.status === "expired",
  };
}

function ofLive(state: RunState, changes: Changes): Segment[] {
  const { partial, tools } = state;
  const live: Segment[] = Object.values(tools)
    .filter((tool) => tool.at !== null)
    .map((tool) => ({ kind: changes(tool.name) ? "change" : "tool", name: tool.name, start: time(tool.at!), end: null, failed: false }));
  if (partial?.at) live.push({ kind: "model", name: state.routed?.model ?? "", start: time(partial.at), end: null, failed: false });
  return live;
}

/** The strip of one run. `messages` may be the whole thread's; `state` is given while the run is watched. */
export function stripOf(run: Run, messages: readonly Message[], approvals: readonly Approval[], state: RunState | undefined, changes: Changes, now: number): Strip {
  const segments = [
    ...messages.filter((message) => message.run_id === run.run_id).flatMap((message) => ofMessage(message, changes) ?? []),
    ...approvals.filter((approval) => approval.run_id === run.run_id).map(ofApproval),
    ...(state ? ofLive(state, changes) : []),
  ].sort((one, other) => one.start - other.start);
  const begun = time(run.started_at ?? run.created_at);
  const live = run.finished_at === null && ["running", "waiting_approval"].includes(run.status);
  const last = Math.max(begun, ...segments.map((segment) => segment.end ?? segment.start));
  const end = live ? Math.max(now, last) : run.finished_at ? Math.max(time(run.finished_at), last) : last;
  return { start: Math.min(begun, ...segments.map((segment) => segment.start)), end: Math.max(end, begun + 1), live, segments };
}

export interface Drawn extends Segment {
  /** Percent of the width. */
  left: number;
  width: number;
}

/** Idle stretches and waits take at most this share of the whole, so that an hour of waiting does not hide a minute of work. */
const idleShare = 0.3;
const leastWidth = 0.8;

/** Places on a line of 100 percent. Time is true where work is done and pressed together where nothing happens. */
export function draw({ start, end, segments }: Strip): Drawn[] {
  const marks = [...new Set([start, end, ...segments.flatMap((segment) => [segment.start, segment.end ?? end])])].sort((a, b) => a - b);
  const works = (from: number, to: number) => segments.some((segment) => segment.kind !== "wait" && segment.start <= from && (segment.end ?? end) >= to);
  const pieces = marks.slice(1).map((to, at) => ({ from: marks[at]!, to, busy: works(marks[at]!, to) }));
  const sum = (busy: boolean) => pieces.filter((piece) => piece.busy === busy).reduce((total, piece) => total + piece.to - piece.from, 0);
  const [busy, idle] = [sum(true), sum(false)];
  const press = busy > 0 && idle > 0 ? Math.min(1, (busy * (idleShare / (1 - idleShare))) / idle) : 1;
  const whole = busy + idle * press || 1;
  const at = new Map<number, number>([[start, 0]]);
  let x = 0;
  for (const piece of pieces) {
    x += ((piece.to - piece.from) * (piece.busy ? 1 : press) * 100) / whole;
    at.set(piece.to, x);
  }
  return segments.map((segment) => {
    const left = at.get(segment.start) ?? 0;
    const width = Math.max(leastWidth, (at.get(segment.end ?? end) ?? 100) - left);
    return { ...segment, left: Math.min(left, 100 - width), width };
  });
}
