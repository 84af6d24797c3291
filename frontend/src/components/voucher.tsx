"use client";

import { useEffect, useId, useState, type KeyboardEvent } from "react";

import { useDecide } from "@/api/queries/approvals";
import type { Approval } from "@/api/types";
import { clock, left } from "@/lib/format";
import { strings } from "@/lib/strings";
import { useNow } from "@/lib/use-now";
import { ErrorState } from "./error-state";
import { Stamp } from "./ui/badge";
import { Button } from "./ui/button";
import { CopyRef } from "./ui/copy";
import { IconClose, IconDone, IconQueued } from "./ui/icon";
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

export const shortHash = (hash: string): string => (hash.length > 9 ? `${hash.slice(0, 4)}…${hash.slice(-4)}` : hash);

const valueText = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

/** Every argument, whole: what is signed is what is read. */
export function ActArguments({ of }: { of: Record<string, unknown> }) {
  const entries = Object.entries(of);
  return (
    <dl className="act-args">
      {entries.map(([name, value]) => (
        <div key={name}>
          <dt className="mono-s muted">{name}</dt>
          <dd>
            <pre className="well mono" tabIndex={0} role="region" aria-label={name}>
              {valueText(value)}
            </pre>
          </dd>
        </div>
      ))}
    </dl>
  );
}

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

/** A decision that was made. It stays where the act stands. */
export function ApprovalStamp({ approval }: { approval: Approval }) {
  const when = clock(approval.decided_at ?? approval.expires_at);
  switch (approval.status) {
    case "approved":
    case "used":
      return <Stamp icon={<IconDone className="ic-s" aria-hidden="true" />}>{t.approved(when)}</Stamp>;
    case "denied":
      return (
        <Stamp tone="bad" icon={<IconClose className="ic-s" aria-hidden="true" />}>
          {t.denied(when)}
        </Stamp>
      );
    case "expired":
      return (
        <Stamp tone="quiet" icon={<IconQueued className="ic-s" aria-hidden="true" />}>
          {t.expiredAt(when)}
        </Stamp>
      );
    case "void":
      return (
        <Stamp tone="quiet" icon={<IconClose className="ic-s" aria-hidden="true" />}>
          {t.void}
        </Stamp>
      );
    case "pending":
      return null;
  }
}

/** An act that waits for a person: its terms above the perforation, the signature below. A approves and D denies while it has the focus. */
export function Voucher({ approval }: { approval: Approval }) {
  const decide = useDecide();
  const armed = useArmed(approval.act_hash);
  const now = useNow(1000);
  const ids = useId();
  const shown = decide.data ?? approval;
  const expired = Date.parse(shown.expires_at) <= now;
  const off = !armed || expired || decide.isPending;
  const answer = (decision: "approve" | "deny", always = false) => {
    if (!off) decide.mutate({ approval, decision, always });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.metaKey || event.ctrlKey || event.altKey || event.repeat) return;
    const key = event.key.toLowerCase();
    if (key !== "a" && key !== "d") return;
    event.preventDefault();
    answer(key === "a" ? "approve" : "deny");
  };
  if (shown.status !== "pending") return <ApprovalStamp approval={shown} />;
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
        <span>{t.title}</span>
        <span className="push mono-s">{expired ? t.expired : t.left(left(approval.expires_at, now))}</span>
      </div>
      <div className="bd">
        <p className="small">
          {t.wants(approval.agent_name)} <b className="mono med">{approval.action}</b>
        </p>
        <ActArguments of={approval.arguments} />
        {approval.reason ? (
          <p className="small muted mt-2">
            {t.why}: {approval.reason}
          </p>
        ) : null}
        {decide.error ? (
          <div className="mt-2">
            <ErrorState error={decide.error} />
          </div>
        ) : null}
      </div>
      <div className="sg">
        <Button variant="primary" disabled={!armed || expired} busy={decide.isPending} onClick={() => answer("approve")}>
          {t.approve(approval.action)}
          <Kbd>A</Kbd>
        </Button>
        <Button disabled={!armed || expired} onClick={() => answer("deny")}>
          {t.deny}
          <Kbd>D</Kbd>
        </Button>
        {approval.pattern ? (
          <Button variant="ghost" disabled={!armed || expired} aria-describedby={`${ids}-p`} onClick={() => answer("approve", true)}>
            {t.always}
          </Button>
        ) : null}
        <span className="push">
          <CopyRef text={approval.act_hash} shown={t.act(shortHash(approval.act_hash))} />
        </span>
        {approval.pattern ? <Pattern approval={approval} id={`${ids}-p`} /> : null}
      </div>
    </div>
  );
}
