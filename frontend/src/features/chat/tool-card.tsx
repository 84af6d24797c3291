"use client";

import { memo, useMemo, useState } from "react";

import { useSteps } from "@/api/queries/runs";
import type { Message, Step } from "@/api/types";
import { Ansi, lineCount } from "@/components/ansi";
import { ReceiptLine, costText } from "@/components/receipt";
import { StateMark, type Tone } from "@/components/ui/badge";
import { IconDenied, IconClose, IconDone, IconApprovals, IconFile, IconOpen, IconSearch, IconShell, IconText, IconTool, IconUnknown, IconQueued, IconStop } from "@/components/ui/icon";
import { Term, Terms } from "@/components/ui/terms";
import { ActArguments, ApprovalStamp, Voucher } from "@/components/voucher";
import { cn } from "@/lib/cn";
import { bytes, elapsed, took } from "@/lib/duration";
import { count, moment } from "@/lib/format";
import { strings } from "@/lib/strings";
import { useNow } from "@/lib/use-now";
import { headline, parseArguments, toolState, type ToolEntry, type ToolState } from "./entries";
import { isTerminal, outputLimit, type LiveTool } from "./run-state";

const t = strings.chat.tool;
const clippedLines = 8;

const icons: Record<string, typeof IconTool> = {
  read_file: IconText,
  write_file: IconFile,
  edit_file: IconFile,
  delete_file: IconFile,
  list_files: IconFile,
  search_files: IconSearch,
};

const iconOf = (name: string): typeof IconTool => (name.startsWith("shell") ? IconShell : (icons[name] ?? IconTool));

const looks: Record<ToolState, string> = {
  "input-streaming": "",
  "input-available": "",
  "approval-requested": "is-wait",
  "approval-responded": "",
  "output-available": "",
  "output-error": "is-bad",
  "output-denied": "is-off",
};

function Running({ at }: { at: string | null }) {
  const now = useNow(1000);
  return <StateMark tone="live">{t.running(at ? elapsed(now - Date.parse(at)) : "")}</StateMark>;
}

function mark(tone: Tone, Icon: typeof IconTool, text: string) {
  return (
    <StateMark tone={tone} icon={<Icon className="ic-s" aria-hidden="true" />}>
      {text}
    </StateMark>
  );
}

/** How a call came out, said first by its mark. */
function Outcome({ message }: { message: Message }) {
  const exit = message.receipt?.exit_code;
  switch (message.status) {
    case "ok":
    case "partial":
      return mark("plain", IconDone, exit == null ? t.done : t.exit(exit));
    case "denied":
      return mark("bad", IconDenied, t.denied);
    case "timeout":
      return mark("bad", IconQueued, t.timeout);
    case "cancelled":
      return mark("plain", IconStop, t.cancelled);
    case "unknown":
      return mark("warn", IconUnknown, t.unknown);
    case "error":
      return mark("bad", IconClose, exit == null ? t.failed : t.exit(exit));
  }
}

function CallState({ entry, state, live }: { entry: ToolEntry; state: ToolState; live: LiveTool | undefined }) {
  if (entry.result) return <Outcome message={entry.result} />;
  if (live) return <Running at={live.at} />;
  switch (state) {
    case "input-streaming":
      return <StateMark>{t.writing}</StateMark>;
    case "approval-requested":
      return mark("warn", IconApprovals, t.waiting);
    case "approval-responded": {
      const approved = entry.approval?.status === "approved" || entry.approval?.status === "used";
      return mark("plain", IconApprovals, approved ? t.approved : t.refused);
    }
    default:
      return <StateMark>{entry.run && isTerminal(entry.run.status) ? t.notRun : t.starting}</StateMark>;
  }
}

/** A shell's result without what its card says already: the exit code, and which stream when there is one only. */
export function forPeople(name: string, content: string): string {
  if (!name.startsWith("shell")) return content;
  const text = content.replace(/^exit code -?\d+(\n|$)/, "");
  return (text.match(/^--- std(out|err)$/gm) ?? []).length === 1 ? text.replace(/^--- stdout\n/m, "") : text;
}

/** What a tool printed: its first lines, or while it runs its last ones. */
function Output({ text, live, whole, cut, logPath, onFile }: { text: string; live: boolean; whole: boolean; cut: boolean; logPath?: string | null; onFile: (path: string) => void }) {
  const shown = useMemo(() => {
    const held = text.length > outputLimit ? text.slice(0, outputLimit) : text;
    if (live) return held.slice(-16_000).split("\n").slice(-clippedLines - 1).join("\n");
    return whole ? held : held.split("\n").slice(0, clippedLines).join("\n");
  }, [text, live, whole]);
  return (
    <>
      <div className={cn("out", whole && "whole")} tabIndex={0} role="region" aria-label={t.output}>
        <Ansi text={shown.replace(/\n$/, "")} />
        {live ? <span className="caret" aria-hidden="true" /> : null}
      </div>
      {cut || text.length > outputLimit ? (
        <div className="note small muted">
          {cut ? t.truncated : t.cut(bytes(outputLimit))}{" "}
          {logPath ? (
            <button type="button" className="link" onClick={() => onFile(logPath)}>
              {t.wholeLog}
            </button>
          ) : null}
        </div>
      ) : null}
    </>
  );
}

function StepTerms({ step, message }: { step: Step | undefined; message: Message }) {
  const r = strings.chat.receipt;
  const receipt = message.receipt;
  return (
    <Terms>
      {step?.effect ? <Term name={r.effect}>{strings.chat.effect[step.effect]}</Term> : null}
      {receipt?.exit_code != null ? <Term name={r.exit}>{receipt.exit_code}</Term> : null}
      <Term name={r.outcome}>{message.status}</Term>
      {step && step.attempts > 1 ? <Term name={r.attempts}>{step.attempts}</Term> : null}
      <Term name={r.when}>{moment(message.created_at)}</Term>
      {receipt ? <Term name={r.took}>{took(receipt.duration_ms)}</Term> : null}
      {receipt?.log_path ? <Term name={r.log}>{receipt.log_path}</Term> : null}
    </Terms>
  );
}

function ToolReceipt({ message, threadNumber }: { message: Message; threadNumber: number | undefined }) {
  const [open, setOpen] = useState(false);
  const steps = useSteps(message.run_id ?? "", open && message.run_id !== null);
  const step = steps.data?.find((one) => one.call_id === message.tool_call_id);
  const r = strings.chat.receipt;
  const receipt = message.receipt;
  const no = threadNumber !== undefined && message.seq !== null ? r.no(threadNumber, message.seq) : undefined;
  return (
    <>
      <div className="ft">
        <ReceiptLine
          no={no}
          lead={message.tool_name?.startsWith("shell") ? `${r.sandbox} · ${message.tool_name}` : message.tool_name}
          tone={message.status === "error" || message.status === "timeout" ? "fail" : undefined}
          value={
            <>
              {receipt?.cost_micro_usd != null ? (
                <>
                  <b>{costText(receipt)}</b> ·{" "}
                </>
              ) : null}
              {took(receipt?.duration_ms ?? 0)}
            </>
          }
          open={open}
          onToggle={() => setOpen(!open)}
        />
      </div>
      {open ? (
        <div className="rec">
          <StepTerms step={step} message={message} />
        </div>
      ) : null}
    </>
  );
}

export interface ToolCardProps {
  entry: ToolEntry;
  live: LiveTool | undefined;
  threadNumber: number | undefined;
  onFile: (path: string) => void;
}

/** A tool call through its seven states: being written, at hand, waiting, answered, returned, failed, denied. */
export const ToolCard = memo(function ToolCard({ entry, live, threadNumber, onFile }: ToolCardProps) {
  const [open, setOpen] = useState(false);
  const state = toolState(entry);
  const Icon = iconOf(entry.name);
  const { result, approval } = entry;
  const text = result ? forPeople(entry.name, result.content) : (live?.output ?? "");
  const lines = useMemo(() => (result ? lineCount(text) : 0), [result, text]);
  const parsed = useMemo(() => (open ? parseArguments(entry.arguments) : undefined), [open, entry.arguments]);
  const denied = state === "output-denied";
  return (
    <div className="grid gap-2">
      <div className={cn("tool", live ? "is-run" : result?.status === "unknown" ? "is-wait" : looks[state])} data-slot="tool" data-state={state}>
        <button type="button" className="hd" aria-expanded={open} aria-label={t.details(`${entry.name} ${headline(entry.arguments)}`)} onClick={() => setOpen(!open)}>
          <Icon className="ic" aria-hidden="true" />
          <span className="name">{entry.name}</span>
          <span className="arg trunc">
            {headline(entry.arguments)}
            {state === "input-streaming" ? <span className="caret" aria-hidden="true" /> : null}
          </span>
          <span className="push row flex-none">
            {live?.progress ? <span className="mono-s muted trunc max-sm:hidden">{live.progress}</span> : null}
            <CallState entry={entry} state={state} live={live} />
            <IconOpen className={cn("ic-s turn muted", open && "open")} aria-hidden="true" />
          </span>
        </button>
        {open ? (
          <div className="args">
            {parsed ? <ActArguments of={parsed} /> : <pre className="well mono">{entry.arguments}</pre>}
          </div>
        ) : null}
        {text && !(denied && !open) ? (
          <Output text={text} live={!result} whole={open} cut={result?.receipt?.truncated ?? false} logPath={result?.receipt?.log_path} onFile={onFile} />
        ) : null}
        {result && !open && lines > clippedLines && !denied ? (
          <button type="button" className="note more small" onClick={() => setOpen(true)}>
            {t.showAll(count(lines))}
          </button>
        ) : null}
        {result ? <ToolReceipt message={result} threadNumber={threadNumber} /> : null}
      </div>
      {approval ? (
        approval.status === "pending" && !result ? (
          <Voucher key={approval.act_hash} approval={approval} />
        ) : (
          <div>
            <ApprovalStamp approval={approval} />
          </div>
        )
      ) : null}
    </div>
  );
});
