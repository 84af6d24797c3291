"use client";

import type { ReactNode } from "react";

import type { Receipt } from "@/api/types";
import { cn } from "@/lib/cn";
import { took } from "@/lib/duration";
import { count, money } from "@/lib/format";
import { strings } from "@/lib/strings";
import { IconOpen } from "./ui/icon";
import { KindMark } from "./ui/kind";
import { Dots } from "./ui/terms";

const t = strings.chat.receipt;

export type ReceiptTone = "fail" | "wait" | "run";

/** The line every act ends in: number, who and how much, a leader, what it cost. With `onToggle` it opens into the record. */
export function ReceiptLine({
  no,
  mark,
  lead,
  value,
  tone,
  open,
  onToggle,
}: {
  no?: string;
  mark?: ReactNode;
  lead: ReactNode;
  value: ReactNode;
  tone?: ReceiptTone;
  open?: boolean;
  onToggle?: () => void;
}) {
  const line = (
    <>
      {no ? <span className="no">{no}</span> : null}
      <span className="l">
        {mark}
        <span className="trunc">{lead}</span>
      </span>
      <Dots />
      <span className="r">{value}</span>
      {onToggle ? <IconOpen className={cn("ic-s turn", open && "open")} aria-hidden="true" /> : null}
    </>
  );
  if (!onToggle) return <div className={cn("rcpt", tone)}>{line}</div>;
  return (
    <button type="button" data-slot="receipt" className={cn("rcpt act", tone)} aria-expanded={open} onClick={onToggle}>
      {line}
    </button>
  );
}

/** What a cost reads as: never zero when nobody knows it. */
export const costText = (receipt: Pick<Receipt, "cost_micro_usd">): string => money(receipt.cost_micro_usd, t.unknownPrice);

/** The receipt of a model's answer. */
export function ModelReceiptLine({ no, receipt, open, onToggle }: { no?: string; receipt: Receipt; open?: boolean; onToggle?: () => void }) {
  const tokens = t.tok(count(receipt.input_tokens + receipt.output_tokens));
  const who = receipt.kind === "demo" ? [t.demo, tokens] : [receipt.provider, receipt.model, tokens];
  return (
    <ReceiptLine
      no={no}
      mark={receipt.kind ? <KindMark kind={receipt.kind} /> : null}
      lead={who.filter(Boolean).join(" · ")}
      value={
        <>
          <b>{costText(receipt)}</b> · {took(receipt.duration_ms)}
        </>
      }
      open={open}
      onToggle={onToggle}
    />
  );
}
