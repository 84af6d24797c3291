"use client";

import { memo, useMemo, useState } from "react";

import { useSteps } from "@/api/queries/runs";
import type { Message, Step } from "@/api/types";
import { Ansi, lineCount } from "@/components/ansi";
import { ApprovalStamp } from "@/components/approval-stamp";
import { Arguments } from "@/components/arguments";
import { ReceiptLine, costText } from "@/components/receipt";
import { StateMark, type Tone } from "@/components/ui/badge";
import { IconDenied, IconClose, IconDone, IconApprovals, IconFile, IconOpen, IconSearch, IconShell, IconText, IconTool, IconUnknown, IconQueued, IconStop } from "@/components/ui/icon";
import { Term, Terms } from "@/components/ui/terms";
import { Voucher } from "@/components/voucher";
import { cn } from "@/lib/cn";
import { bytes, elapsed, took } from "@/lib/duration";
import { count, moment } from "@/lib/format";
import { strings } from "@/lib/strings";
import { useNow } from "@/lib/use-now";
import { headline, parseArguments, toolState, type ToolEntry, type ToolState } from "./entries";
import { isTerminal, outputLimit, type LiveTool } from "./run-state";
import { printedBy, type Printed } from "./tool-text";

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

const shownLines = (text: string, lines: number): string => text.split("\n").slice(0, lines).join("\n");

/** What a running tool has printed last. */
function LiveOutput({ text }: { text: string }) {
  const shown = useMemo(() => text.slice(-16_000).split("\n").slice(-clippedLines - 1).join("\n"), [text]);
  return (
    <div className="out" tabIndex={0} role="region" aria-label={t.output}>
      <Ansi text={shown.replace(/\n$/, "")} />
      <span className="caret" aria-hidden="true" />
    </div>
  );
}

/** What a tool has printed: its first lines, or all that a page can hold. What went to the error stream is marked. */
function Output({ printed, whole }: { printed: Printed; whole: boolean }) {
  const { note, parts } = printed;
  const lines = Math.ceil(clippedLines / Math.max(1, parts.length));
  return (
    <>
      {note ? <p className="note small">{note}</p> : null}
      {parts.map(({ stream, text }) => {
        const held = text.slice(0, outputLimit);
        return (
          <div key={stream} className={cn("out", stream, whole && "whole")} tabIndex={0} role="region" aria-label={stream === "err" ? t.errors : t.output}>
            {stream === "err" ? <span className="out-mark">{t.stderr}</span> : null}
            <Ansi text={(whole ? held : shownLines(held, lines)).replace(/\n$/, "")} />
          </div>
        );
      })}
    </>
  );
}

/** That not all of it is here, and where the whole is. */
function Cut({ message, onFile }: { message: Message; onFile: (path: string) => void }) {
  const { truncated = false, log_path } = message.receipt ?? {};
  if (!truncated && message.content.length <= outputLimit) return null;
  return (
    <div className="note small muted">
      {truncated ? t.truncated : t.cut(bytes(outputLimit))}{" "}
      {log_path ? (
        <button type="button" className="link" onClick={() => onFile(log_path)}>
          {t.wholeLog}
        </button>
      ) : null}
    </div>
  );
}

/** The exact words that the model was given. */
function ModelText({ content }: { content: string }) {
  const [open, setOpen] = useState(false);
  return (
    <div className="note small">
      <button type="button" className="muted row" aria-expanded={open} onClick={() => setOpen(!open)}>
        <IconOpen className={cn("ic-s turn", open && "open")} aria-hidden="true" />
        {t.asRead}
      </button>
      {open ? (
        <pre className="well mono" tabIndex={0} role="region" aria-label={t.asRead}>
          {content.slice(0, outputLimit)}
        </pre>
      ) : null}
    </div>
  );
}

/** A result: what was printed, how much more there is, and when the card is open what the model read. */
function Returned({ message, name, open, onOpen, onFile }: { message: Message; name: string; open: boolean; onOpen: () => void; onFile: (path: string) => void }) {
  const printed = useMemo(() => printedBy(name, message.content), [name, message.content]);
  const most = Math.max(0, ...printed.parts.map((part) => lineCount(part.text)));
  const lines = printed.parts.reduce((sum, part) => sum + lineCount(part.text), 0);
  const plain = printed.parts.length <= 1 && (printed.parts[0]?.text ?? "") === message.content;
  return (
    <>
      <Output printed={printed} whole={open} />
      <Cut message={message} onFile={onFile} />
      {!open && most > clippedLines / Math.max(1, printed.parts.length) ? (
        <button type="button" className="note more small" onClick={onOpen}>
          {t.showAll(count(lines))}
        </button>
      ) : null}
      {open && !plain ? <ModelText content={message.content} /> : null}
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
              {receipt ? took(receipt.duration_ms) : null}
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
            {parsed ? <Arguments value={parsed} /> : <pre className="well mono">{entry.arguments}</pre>}
          </div>
        ) : null}
        {result ? (
          denied && !open ? null : <Returned message={result} name={entry.name} open={open} onOpen={() => setOpen(true)} onFile={onFile} />
        ) : live?.output ? (
          <LiveOutput text={live.output} />
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
