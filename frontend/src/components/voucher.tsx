"use client";

import Link from "next/link";
import { useEffect, useId, useState, type KeyboardEvent } from "react";

import { isProblem } from "@/api/problem";
import { useDecide } from "@/api/queries/approvals";
import type { Approval } from "@/api/types";
import { ago, left } from "@/lib/format";
import { strings } from "@/lib/strings";
import { useNow } from "@/lib/use-now";
import { ApprovalStamp } from "./approval-stamp";
import { Arguments } from "./arguments";
import { ErrorState } from "./error-state";
import { Button } from "./ui/button";
import { CopyRef } from "./ui/copy";
import { Input } from "./ui/input";
import { Kbd } from "./ui/kbd";

const t = strings.chat.approval;

/** Buttons stay off for this long after a voucher appears or its act changes, so that no click meant for something else signs it. */
const armMs = 500;

function useArmed(act: string): boolean {
  const [armed, setArmed] = useState<string>();
  useEffect(() => {
    const timer = setTimeout(() => setArmed(act), armMs);
    return () => clearTimeout(timer);
  }, [act]);
  return armed === act;
}

const shortHash = (hash: string): string => (hash.length > 9 ? `${hash.slice(0, 4)}…${hash.slice(-4)}` : hash);

/** What "always" would let pass from now on, to the letter. */
function Pattern({ approval, id }: { approval: Approval; id: string }) {
  const fields = Object.entries(approval.pattern ?? {});
  return (
    <p id={id} className="small muted always">
      {t.alwaysIs} <span className="ic-code">{approval.action}</span>{" "}
      {fields.length === 0 ? t.anyArguments : t.exactly}{" "}
      {fields.map(([name, value]) => (
        <span key={name} className="ic-code">
          {name} = {typeof value === "string" ? value : JSON.stringify(value)}
        </span>
      ))}
    </p>
  );
}

/** A refusal with its reason, which the agent reads. */
function Refusal({ busy, off, onDeny, onCancel }: { busy: boolean; off: boolean; onDeny: (note: string) => void; onCancel: () => void }) {
  const [note, setNote] = useState("");
  return (
    <form
      className="why row"
      onSubmit={(event) => {
        event.preventDefault();
        onDeny(note.trim());
      }}
      onKeyDown={(event) => {
        event.stopPropagation();
        if (event.key === "Escape") onCancel();
      }}
    >
      <Input className="grow" aria-label={t.whyNot} placeholder={t.whyNot} maxLength={2000} autoFocus value={note} onChange={(event) => setNote(event.target.value)} />
      <Button type="submit" disabled={off} busy={busy}>
        {t.deny}
      </Button>
      <Button variant="ghost" onClick={onCancel}>
        {strings.common.cancel}
      </Button>
    </form>
  );
}

/**
 * An act that waits for a person: its terms above the perforation, the signature below. A approves and D denies while it has the focus.
 * Away from its chat it says who asked, and leads there.
 */
export function Voucher({ approval, away = false }: { approval: Approval; away?: boolean }) {
  const decide = useDecide();
  const armed = useArmed(approval.act_hash);
  const now = useNow(1000);
  const ids = useId();
  const [refusing, setRefusing] = useState(false);
  const shown = decide.data ?? approval;
  const expired = Date.parse(shown.expires_at) <= now;
  const off = !armed || expired;
  const answer = (decision: "approve" | "deny", { always = false, note = "" } = {}) => {
    if (!off && !decide.isPending) decide.mutate({ approval, decision, always, note });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.metaKey || event.ctrlKey || event.altKey || event.repeat) return;
    const key = event.key.toLowerCase();
    if (key !== "a" && key !== "d") return;
    event.preventDefault();
    answer(key === "a" ? "approve" : "deny");
  };
  if (shown.status !== "pending") return <ApprovalStamp approval={shown} />;
  const gone = isProblem(decide.error, 409) || isProblem(decide.error, 410);
  return (
    <div
      data-slot="voucher"
      id={`approval-${approval.approval_id}`}
      className="vch"
      role="group"
      aria-label={t.asks(approval.agent_name, approval.action)}
      tabIndex={0}
      onKeyDown={onKeyDown}
    >
      <div className="hd">
        <span className="trunc">{away ? t.asked(approval.agent_name, ago(approval.created_at, now)) : t.title}</span>
        <span className="push mono-s nowrap">{expired ? t.expired : t.left(left(approval.expires_at, now))}</span>
      </div>
      <div className="bd">
        <p className="small">
          {t.wants(approval.agent_name)} <b className="mono med">{approval.action}</b>
        </p>
        <Arguments value={approval.arguments} />
        {approval.reason ? (
          <p className="small muted mt-2">
            {t.why}: {approval.reason}
          </p>
        ) : null}
        {gone ? <p className="small warn mt-2">{t.gone}</p> : null}
        {decide.error && !gone ? (
          <div className="mt-2">
            <ErrorState error={decide.error} />
          </div>
        ) : null}
      </div>
      <div className="sg">
        {refusing ? (
          <Refusal busy={decide.isPending} off={off} onDeny={(note) => answer("deny", { note })} onCancel={() => setRefusing(false)} />
        ) : (
          <>
            <Button variant="primary" disabled={off} busy={decide.isPending} onClick={() => answer("approve")}>
              {t.approve(approval.action)}
              <Kbd>A</Kbd>
            </Button>
            <Button disabled={off} onClick={() => answer("deny")}>
              {t.deny}
              <Kbd>D</Kbd>
            </Button>
            <Button variant="ghost" disabled={off} onClick={() => setRefusing(true)}>
              {t.denyWhy}
            </Button>
            {approval.pattern ? (
              <Button variant="ghost" disabled={off} aria-describedby={`${ids}-p`} onClick={() => answer("approve", { always: true })}>
                {t.always}
              </Button>
            ) : null}
          </>
        )}
        <span className="push row">
          {away ? (
            <Link href={`/threads/${approval.thread_id}`} className="link small nowrap">
              {t.thread}
            </Link>
          ) : null}
          <CopyRef text={approval.act_hash} shown={t.act(shortHash(approval.act_hash))} />
        </span>
        {approval.pattern && !refusing ? <Pattern approval={approval} id={`${ids}-p`} /> : null}
      </div>
    </div>
  );
}
