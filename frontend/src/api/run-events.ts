/** A run's events over fetch: resumed by the last id, closed while nobody looks, handed over once per frame. */
import { createParser } from "eventsource-parser";

import type { components } from "./schema";

type Schemas = components["schemas"];

export type RunEvent =
  | Schemas["StreamSnapshot"]
  | Schemas["RunQueued"]
  | Schemas["RunStarted"]
  | Schemas["ContextBuilt"]
  | Schemas["InferenceRouted"]
  | Schemas["MessageStarted"]
  | Schemas["MessageDelta"]
  | Schemas["ReasoningDelta"]
  | Schemas["MessageRestarted"]
  | Schemas["MessageCompleted"]
  | Schemas["ToolArgumentsDelta"]
  | Schemas["ToolCalled"]
  | Schemas["ToolOutput"]
  | Schemas["ToolProgress"]
  | Schemas["ToolReturned"]
  | Schemas["ArtifactCreated"]
  | Schemas["ApprovalRequested"]
  | Schemas["ApprovalDecided"]
  | Schemas["UsageUpdated"]
  | Schemas["RunFinished"];

/** An event and its place in the stream, `<generation>-<n>`. */
export interface PlacedEvent {
  id: string;
  event: RunEvent;
}

/** `paused`: the tab is hidden. `ended`: after `run.finished`. `refused`: the session is over. `missing`: no such run. */
export type StreamState = "connecting" | "live" | "reconnecting" | "paused" | "ended" | "refused" | "missing";

export interface Watch {
  /** One batch per animation frame at most, in order. */
  onEvents: (events: PlacedEvent[]) => void;
  onState?: (state: StreamState) => void;
  signal: AbortSignal;
}

const firstWaitMs = 500;
const longestWaitMs = 15_000;
/** The server comments every 15 s; three silent rounds mean that the connection is dead. */
const silenceMs = 45_000;

const hidden = (): boolean => typeof document !== "undefined" && document.visibilityState === "hidden";

/** Resolves when one of the events happens, the time is over, or the signal aborts. */
function until(signal: AbortSignal, events: [EventTarget, string][], ms?: number): Promise<void> {
  return new Promise((resolve) => {
    const done = new AbortController();
    const finish = () => {
      done.abort();
      clearTimeout(timer);
      resolve();
    };
    const timer = ms === undefined ? undefined : setTimeout(finish, ms);
    signal.addEventListener("abort", finish, { signal: done.signal });
    for (const [target, name] of events) target.addEventListener(name, finish, { signal: done.signal });
    if (signal.aborted) finish();
  });
}

/** Collects events and hands them over once per frame, or at once when told to. */
function frames(hand: (events: PlacedEvent[]) => void) {
  let waiting: PlacedEvent[] = [];
  let frame: number | undefined;
  const flush = () => {
    if (frame !== undefined) cancelAnimationFrame(frame);
    frame = undefined;
    if (waiting.length === 0) return;
    const events = waiting;
    waiting = [];
    hand(events);
  };
  const add = (event: PlacedEvent) => {
    waiting.push(event);
    frame ??= requestAnimationFrame(flush);
  };
  const drop = () => {
    waiting = [];
    flush();
  };
  return { add, flush, drop };
}

const terminal: ReadonlySet<Schemas["Run"]["status"]> = new Set(["completed", "failed", "stopped", "timed_out"]);

/** Nothing comes after the first; after the second at most the first. */
const isLast = (event: RunEvent): boolean => event.type === "run.finished";
const isOver = (event: RunEvent): boolean => event.type === "stream.snapshot" && terminal.has(event.run.status);

type End = "ended" | "refused" | "missing" | "lost";

/** One connection, to its end. */
async function read(runId: string, last: { id: string }, add: (event: PlacedEvent) => void, onLive: () => void, cut: AbortController): Promise<End> {
  const response = await fetch(`/api/runs/${encodeURIComponent(runId)}/events`, {
    headers: { Accept: "text/event-stream", ...(last.id ? { "Last-Event-ID": last.id } : {}) },
    cache: "no-store",
    signal: cut.signal,
  });
  if (response.status === 401) return "refused";
  if (response.status === 404) return "missing";
  if (!response.ok || !response.body || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) return "lost";
  onLive();
  let [ended, over] = [false, false];
  const parser = createParser({
    onEvent: (message) => {
      const event = JSON.parse(message.data) as RunEvent;
      last.id = message.id ?? last.id;
      add({ id: last.id, event });
      ended ||= isLast(event);
      over ||= isOver(event);
    },
  });
  const reader = response.body.getReader();
  const text = new TextDecoder();
  let silence = setTimeout(() => cut.abort(), silenceMs);
  try {
    for (;;) {
      const chunk = await reader.read();
      clearTimeout(silence);
      if (chunk.done) return over ? "ended" : "lost";
      silence = setTimeout(() => cut.abort(), silenceMs);
      parser.feed(text.decode(chunk.value, { stream: true }));
      if (ended) return "ended";
    }
  } finally {
    clearTimeout(silence);
    await reader.cancel().catch(() => undefined);
  }
}

/** Watch a run until it has finished, its session is over, or the signal aborts. Never throws: a lost connection is tried again. */
export async function openRun(runId: string, { onEvents, onState, signal }: Watch): Promise<void> {
  const last = { id: "" };
  const batch = frames((events) => {
    if (!signal.aborted) onEvents(events);
  });
  const say = (state: StreamState) => {
    if (!signal.aborted) onState?.(state);
  };
  let failures = 0;
  while (!signal.aborted) {
    if (hidden()) {
      say("paused");
      await until(signal, [[document, "visibilitychange"]]);
      continue;
    }
    say(last.id || failures > 0 ? "reconnecting" : "connecting");
    const cut = new AbortController();
    const stop = () => cut.abort();
    const look = () => hidden() && cut.abort();
    signal.addEventListener("abort", stop);
    document.addEventListener("visibilitychange", look);
    const before = last.id;
    let end: End = "lost";
    try {
      end = await read(runId, last, batch.add, () => say("live"), cut);
    } catch {
      // A refused, cut or garbled connection: what came whole is kept, and the next one goes on from there.
    } finally {
      signal.removeEventListener("abort", stop);
      document.removeEventListener("visibilitychange", look);
    }
    batch.flush();
    if (end !== "lost") return say(end);
    if (hidden()) continue;
    failures = last.id === before ? failures + 1 : 0;
    say("reconnecting");
    const wait = Math.min(longestWaitMs, firstWaitMs * 2 ** Math.min(failures, 6)) * (0.75 + Math.random() / 2);
    await until(signal, [[window, "online"], [document, "visibilitychange"]], wait);
  }
  batch.drop();
}
