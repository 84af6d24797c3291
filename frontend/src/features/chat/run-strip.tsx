"use client";

import { useMemo } from "react";

import { useTools } from "@/api/queries/tools";
import type { Approval, Message, Run } from "@/api/types";
import { cn } from "@/lib/cn";
import { elapsed, took } from "@/lib/duration";
import { strings } from "@/lib/strings";
import { useNow } from "@/lib/use-now";
import { totalText } from "./cost";
import { isTerminal, type RunState } from "./run-state";
import { draw, stripOf, type Segment, type Strip } from "./strip-model";

const t = strings.chat.strip;

/** Whether an action changes the world, by the catalogue; one that is not in it is taken to. */
function useChanges(): (action: string) => boolean {
  const tools = useTools();
  return useMemo(() => {
    const effects = new Map(tools.data?.flatMap((tool) => tool.actions.map((action) => [action.name, action.effect] as const)));
    return (action: string) => (effects.get(action) ?? "once") !== "read";
  }, [tools.data]);
}

function inWords(segment: Segment, strip: Strip): string {
  const at = elapsed(segment.start - strip.start);
  const long = segment.end === null ? t.now : took(segment.end - segment.start);
  switch (segment.kind) {
    case "model":
      return t.model(at, long);
    case "tool":
      return t.tool(segment.name, at, long);
    case "change":
      return t.change(segment.name, at, long);
    case "wait":
      return t.wait(at, long);
  }
}

export interface RunStripProps {
  run: Run;
  agent: string;
  messages: readonly Message[];
  approvals: readonly Approval[];
  state: RunState | undefined;
}

/** The header of a run: the run as a line in time, and what it took so far. */
export function RunStrip({ run, agent, messages, approvals, state }: RunStripProps) {
  const changes = useChanges();
  const live = !isTerminal(run.status) && run.status !== "queued";
  const now = useNow(live ? 1000 : 3_600_000);
  const own = useMemo(() => messages.filter((message) => message.run_id === run.run_id), [messages, run.run_id]);
  const watched = state?.run?.run_id === run.run_id ? state : undefined;
  const strip = stripOf(run, own, approvals, watched, changes, now);
  const drawn = draw(strip);
  const steps = Math.max(run.steps, own.filter((message) => message.role === "assistant").length);
  const cost = totalText(run);
  return (
    <div className="strip-row">
      <div className={cn("run-strip", strip.live && "is-live")} aria-hidden="true" title={t.legend}>
        {drawn.map((segment, at) => (
          <i
            key={at}
            className={cn("sg", `sg-${segment.kind}`, segment.end === null && "open", segment.failed && "bad")}
            style={{ left: `${segment.left}%`, width: `${segment.width}%` }}
            title={inWords(segment, strip)}
          />
        ))}
        {strip.live ? <i className="now" /> : null}
      </div>
      <ol className="sr-only" aria-label={t.label(agent)}>
        {strip.segments.length === 0 ? <li>{t.none}</li> : strip.segments.map((segment, at) => <li key={at}>{inWords(segment, strip)}</li>)}
      </ol>
      <span className="mono-s muted nowrap">
        <span className="max-sm:hidden">{strings.chat.steps(steps)} · </span>
        {elapsed(strip.end - strip.start)} · {cost}
      </span>
    </div>
  );
}
