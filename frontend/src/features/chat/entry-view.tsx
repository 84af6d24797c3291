"use client";

import Link from "next/link";
import { memo, useState, type ReactNode } from "react";

import { Problem } from "@/api/problem";
import { useSteps } from "@/api/queries/runs";
import type { Message, Run } from "@/api/types";
import { ErrorState, errorText } from "@/components/error-state";
import { Markdown } from "@/components/markdown";
import { ModelReceiptLine, costText } from "@/components/receipt";
import { Button } from "@/components/ui/button";
import { CopyButton, CopyRef } from "@/components/ui/copy";
import { IconApprovals, IconClose, IconDenied, IconDone, IconOpen, IconPerson, IconQueued, IconRetry, IconStop, IconUnknown } from "@/components/ui/icon";
import { Kind } from "@/components/ui/kind";
import { Term, Terms } from "@/components/ui/terms";
import { cn } from "@/lib/cn";
import { took } from "@/lib/duration";
import { clock, count, moment } from "@/lib/format";
import { strings } from "@/lib/strings";
import { toolState, type EndEntry, type Entry, type OutgoingEntry, type UserEntry } from "./entries";
import { askedOf } from "./journal";
import type { LiveTool, Partial, RunState } from "./run-state";
import { ToolCard } from "./tool-card";

const t = strings.chat;

export interface EntryActions {
  onAgain: (messageId: string) => void;
  onEdit: (messageId: string) => void;
  onRetry: (run: Run) => void;
  onFile: (path: string) => void;
}

export interface EntryProps {
  entry: Entry;
  live: LiveTool | undefined;
  /** Set for what is being written. */
  restart: RunState["restart"];
  routed: RunState["routed"];
  threadNumber: number | undefined;
  retrying: boolean;
  actions: EntryActions;
}

interface Margin {
  at: string | null;
  mark: ReactNode;
  tone?: "warn" | "bad" | "live";
  no?: string;
  running?: boolean;
}

function mark(Icon: typeof IconDone): ReactNode {
  return <Icon aria-hidden="true" />;
}

const answerMark = <i className="bead" aria-hidden="true" />;

function toolMargin(entry: Extract<Entry, { kind: "tool" }>, live: LiveTool | undefined): Margin {
  const at = entry.result?.created_at ?? entry.approval?.created_at ?? entry.asked;
  if (live) return { at: null, mark: null, running: true };
  switch (toolState(entry)) {
    case "output-available":
      return { at, mark: mark(IconDone) };
    case "output-denied":
      return { at, mark: mark(IconDenied), tone: "bad" };
    case "output-error":
      return entry.result?.status === "unknown" ? { at, mark: mark(IconUnknown), tone: "warn" } : { at, mark: mark(IconClose), tone: "bad" };
    case "approval-requested":
      return { at, mark: mark(IconApprovals), tone: "warn" };
    case "approval-responded":
      return { at, mark: mark(IconApprovals) };
    case "input-streaming":
      return { at: null, mark: null, running: true };
    case "input-available":
      return { at, mark: mark(IconQueued) };
  }
}

function marginOf({ entry, live, threadNumber }: EntryProps): Margin {
  switch (entry.kind) {
    case "user":
      return {
        at: entry.message.created_at,
        mark: mark(entry.queued ? IconQueued : IconPerson),
        no: threadNumber !== undefined && entry.message.seq !== null ? `${threadNumber}.${entry.message.seq}` : undefined,
      };
    case "outgoing":
      return { at: entry.outgoing.at, mark: mark(entry.outgoing.error ? IconClose : IconPerson), tone: entry.outgoing.error ? "bad" : undefined };
    case "answer":
      return { at: entry.message.created_at, mark: answerMark };
    case "writing":
      return { at: null, mark: null, running: true };
    case "tool":
      return toolMargin(entry, live);
    case "end":
      return {
        at: entry.run.finished_at,
        mark: mark(entry.run.status === "stopped" ? IconStop : entry.run.status === "timed_out" ? IconQueued : IconClose),
        tone: entry.run.status === "stopped" ? undefined : "bad",
      };
  }
}

/** An entry of the book: its time and mark left of the double rule, the act right of it. */
export const EntryView = memo(function EntryView(props: EntryProps) {
  const { at, mark: sign, tone, no, running } = marginOf(props);
  return (
    <article className={cn("entry", running && "is-run")} data-kind={props.entry.kind} data-key={props.entry.key}>
      <div className={cn("mg", tone, running && "live")}>
        {running ? <span className="live">{t.now}</span> : at ? <time dateTime={at} title={moment(at)}>{clock(at)}</time> : null}
        {no ? <span className="ref-no" title={t.entry(no)}>{no}</span> : null}
        {sign ? <span className="mk">{sign}</span> : null}
      </div>
      <div className="act-body">
        <Act {...props} />
      </div>
    </article>
  );
});

function Act(props: EntryProps) {
  const { entry, live, threadNumber, actions } = props;
  switch (entry.kind) {
    case "user":
      return <UserAct entry={entry} />;
    case "outgoing":
      return <OutgoingAct entry={entry} actions={actions} />;
    case "answer":
      return <Answer message={entry.message} threadNumber={threadNumber} routed={props.routed} />;
    case "writing":
      return <Writing partial={entry.partial} restart={props.restart} routed={props.routed} />;
    case "tool":
      return <ToolCard entry={entry} live={live} threadNumber={threadNumber} onFile={actions.onFile} />;
    case "end":
      return <RunEnd entry={entry} actions={actions} retrying={props.retrying} />;
  }
}

function UserAct({ entry }: { entry: UserEntry }) {
  return (
    <>
      <span className="sr-only">{t.you}: </span>
      <div className={cn("said", entry.queued && "is-queued")}>{entry.message.content}</div>
      {entry.queued ? (
        <p className="small muted mt-1">{entry.queued.place == null ? t.queued : t.queuedAt(entry.queued.place)}</p>
      ) : null}
    </>
  );
}

function OutgoingAct({ entry, actions }: { entry: OutgoingEntry; actions: EntryActions }) {
  const { messageId, content, error } = entry.outgoing;
  return (
    <>
      <div className="said is-queued">{content}</div>
      {error ? (
        <div className="row mt-1 flex-wrap" role="alert">
          <span className="small bad">
            {t.composer.offline}
            {errorText(error)}
            {error instanceof Problem && error.requestId ? <> <CopyRef text={error.requestId} /></> : null}
          </span>
          <Button size="s" onClick={() => actions.onAgain(messageId)}>
            {t.composer.again}
          </Button>
          <Button size="s" variant="ghost" onClick={() => actions.onEdit(messageId)}>
            {strings.common.cancel}
          </Button>
        </div>
      ) : (
        <p className="small muted mt-1">{t.sending}</p>
      )}
    </>
  );
}

function Reasoning({ text, live, ms }: { text: string; live: boolean; ms?: number }) {
  const [open, setOpen] = useState(false);
  return (
    <div className="think">
      <button type="button" className="small muted row" aria-expanded={open} onClick={() => setOpen(!open)}>
        <IconOpen className={cn("ic-s turn", open && "open")} aria-hidden="true" />
        {live ? t.reasoningLive : ms ? t.reasoningFor(took(ms)) : t.reasoning}
      </button>
      {open ? <div className="small ink2 thought">{text}</div> : null}
    </div>
  );
}

/** Everything known of a model call, from its receipt and its line in the journal. */
function ModelRecord({ message, routed }: { message: Message; routed: RunState["routed"] }) {
  const r = t.receipt;
  const receipt = message.receipt!;
  const steps = useSteps(message.run_id ?? "", message.run_id !== null);
  const step = steps.data?.find((one) => one.message_id === message.message_id && one.kind === "model_call");
  const { reason = routed?.model === receipt.model ? routed.reason : undefined, context } = askedOf(step);
  return (
    <div className="sheet rec-sheet">
      <Terms>
        <Term name={r.model}>
          {receipt.provider}/{receipt.model}
        </Term>
        {receipt.kind ? (
          <Term name={r.runs}>
            <Kind kind={receipt.kind} />
          </Term>
        ) : null}
        {reason ? <Term name={r.why}>{reason}</Term> : null}
        <Term name={r.read}>
          {receipt.cached_tokens > 0 ? r.readOf(count(receipt.input_tokens), count(receipt.cached_tokens)) : r.tok(count(receipt.input_tokens))}
          {receipt.estimated ? ` · ${r.estimated}` : ""}
        </Term>
        <Term name={r.wrote}>
          {receipt.first_token_ms != null
            ? r.wroteAfter(count(receipt.output_tokens), took(receipt.first_token_ms))
            : r.tok(count(receipt.output_tokens))}
        </Term>
        {context ? (
          <Term name={r.sent}>
            {r.sentOf(count(context.total), count(context.limit))}
            {context.dropped > 0 ? ` · ${r.dropped(context.dropped)}` : ""}
          </Term>
        ) : null}
        {receipt.reasoning_tokens > 0 ? <Term name={r.thought}>{r.tok(count(receipt.reasoning_tokens))}</Term> : null}
        <Term name={r.took}>{took(receipt.duration_ms)}</Term>
        {receipt.stop_reason ? <Term name={r.ended}>{receipt.stop_reason}</Term> : null}
        {step && step.attempts > 1 ? <Term name={r.attempts}>{step.attempts}</Term> : null}
        <Term name={r.when}>{moment(message.created_at)}</Term>
        {receipt.upstream_id ? (
          <Term name={r.request}>
            <CopyRef text={receipt.upstream_id} />
          </Term>
        ) : null}
        <Term name={r.cost} total>
          {costText(receipt)}
        </Term>
      </Terms>
    </div>
  );
}

function Answer({ message, threadNumber, routed }: { message: Message; threadNumber: number | undefined; routed: RunState["routed"] }) {
  const [open, setOpen] = useState(false);
  const { receipt, content, reasoning } = message;
  const no = threadNumber !== undefined && message.seq !== null ? t.receipt.no(threadNumber, message.seq) : undefined;
  return (
    <>
      {reasoning ? <Reasoning text={reasoning} live={false} /> : null}
      {content ? <Markdown text={content} /> : null}
      {receipt ? (
        <div className="row rcpt-row">
          <ModelReceiptLine no={no} receipt={receipt} open={open} onToggle={() => setOpen(!open)} />
          {content ? <CopyButton text={content} /> : null}
        </div>
      ) : null}
      {open && receipt ? <ModelRecord message={message} routed={routed} /> : null}
    </>
  );
}

function Writing({ partial, restart, routed }: { partial: Partial; restart: RunState["restart"]; routed: RunState["routed"] }) {
  const quiet = !partial.content && !partial.reasoning && partial.calls.length === 0;
  return (
    <>
      {restart ? <p className="small warn">{t.restarted(restart.reason)}</p> : null}
      {partial.reasoning ? <Reasoning text={partial.reasoning} live={!partial.content} /> : null}
      {partial.content ? <Markdown text={partial.content} live /> : null}
      {quiet ? (
        <p className="small muted">
          {t.waitsForModel} {routed ? <span className="mono-s">{routed.model}</span> : null}
        </p>
      ) : null}
    </>
  );
}

function RunEnd({ entry, actions, retrying }: { entry: EndEntry; actions: EntryActions; retrying: boolean }) {
  const { run, retried } = entry;
  if (run.status === "stopped") {
    return (
      <p className="small muted end-line">
        <span className="med ink2">{t.end.stopped}.</span> {t.end.stoppedText}
      </p>
    );
  }
  const title = run.problem?.title || (run.status === "timed_out" ? t.end.timed_out : t.end.failed);
  if (retried) {
    return (
      <p className="small muted end-line">
        <span className="med ink2">{title}.</span> {run.problem?.detail}
      </p>
    );
  }
  const problem = new Problem(run.problem?.status ?? 500, title, run.problem?.detail || (run.status === "timed_out" ? t.end.timedOutText : undefined), {
    requestId: run.problem?.request_id,
    setting: run.problem?.setting || undefined,
  });
  return (
    <ErrorState error={problem}>
      <Button size="s" busy={retrying} onClick={() => actions.onRetry(run)}>
        <IconRetry className="ic-s" aria-hidden="true" />
        {t.end.retry}
      </Button>
      {run.status === "failed" ? (
        <Link className="btn ghost s" href="/settings?tab=providers">
          {t.end.providers}
        </Link>
      ) : null}
      {run.problem?.provider ? <span className="mono-s muted push">{t.end.provider(run.problem.provider)}</span> : null}
    </ErrorState>
  );
}
