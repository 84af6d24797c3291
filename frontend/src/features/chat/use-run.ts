"use client";

import { useEffect, useState } from "react";

import { openRun, type StreamState } from "@/api/run-events";
import { applyEvents, emptyRun, type RunState } from "./run-state";

export interface WatchedRun {
  runId: string | undefined;
  state: RunState;
  stream: StreamState | undefined;
}

const nothing: WatchedRun = { runId: undefined, state: emptyRun, stream: undefined };

/** Watch a run. What was seen of the last one stays until the next one speaks. */
export function useRun(runId: string | undefined): WatchedRun {
  const [watched, setWatched] = useState(nothing);
  useEffect(() => {
    if (!runId) return;
    const control = new AbortController();
    const own = (before: WatchedRun): WatchedRun =>
      // What the next call is sent and which model answers stay known from run to run.
      before.runId === runId
        ? before
        : { runId, state: { ...emptyRun, context: before.state.context, written: before.state.written }, stream: undefined };
    void openRun(runId, {
      onEvents: (events) => setWatched((before) => ({ ...own(before), state: applyEvents(own(before).state, events) })),
      onState: (stream) => setWatched((before) => ({ ...own(before), stream })),
      signal: control.signal,
    });
    return () => control.abort();
  }, [runId]);
  return watched;
}
