"use client";

import { useEffect, useState } from "react";

import type { StreamState } from "@/api/run-events";
import type { Run } from "@/api/types";
import { strings } from "@/lib/strings";
import type { RunState } from "./run-state";

const t = strings.chat.said;

/** What a screen reader is told of a run: its turns, never its single words. */
export function useSaid(run: Run | undefined, state: RunState): string {
  const watched = run !== undefined && state.run?.run_id === run.run_id;
  if (!watched) return "";
  switch (run.status) {
    case "queued":
      return t.queued;
    case "running": {
      const tool = Object.values(state.tools)[0];
      return tool ? t.tool(tool.name) : t.running;
    }
    case "waiting_approval":
      return t.waiting_approval(state.approvals.find((approval) => approval.status === "pending")?.action ?? "");
    case "completed":
      return t.answered;
    case "failed":
      return t.failed(run.problem?.title ?? "");
    case "stopped":
      return t.stopped;
    case "timed_out":
      return t.timed_out;
  }
}

const shownMs = 4_000;

/** True for a few seconds after a broken line has come back. */
export function useReconnected(stream: StreamState | undefined): boolean {
  const [before, setBefore] = useState(stream);
  const [back, setBack] = useState(false);
  if (stream !== before) {
    if (before === "reconnecting" && stream === "live") setBack(true);
    setBefore(stream);
  }
  useEffect(() => {
    if (!back) return;
    const timer = setTimeout(() => setBack(false), shownMs);
    return () => clearTimeout(timer);
  }, [back]);
  return back;
}
