"use client";

import Link from "next/link";

import type { Approval } from "@/api/types";
import { Stamp } from "@/components/ui/badge";
import { IconClose, IconDenied, IconDone, IconQueued } from "@/components/ui/icon";
import { clock, date } from "@/lib/format";
import { strings } from "@/lib/strings";

const t = strings.approvals;

function when(approval: Approval): string {
  const iso = approval.decided_at ?? approval.expires_at;
  return new Date(iso).toDateString() === new Date().toDateString() ? clock(iso) : `${date(iso)}, ${clock(iso)}`;
}

export function DecisionStamp({ approval }: { approval: Approval }) {
  switch (approval.status) {
    case "approved":
    case "used":
      return <Stamp icon={<IconDone className="ic-s" aria-hidden="true" />}>{t.stamps[approval.status](when(approval))}</Stamp>;
    case "denied":
      return (
        <Stamp tone="bad" icon={<IconClose className="ic-s" aria-hidden="true" />}>
          {t.stamps.denied(when(approval))}
        </Stamp>
      );
    case "expired":
      return (
        <Stamp tone="quiet" icon={<IconQueued className="ic-s" aria-hidden="true" />}>
          {t.stamps.expired(when(approval))}
        </Stamp>
      );
    case "void":
      return (
        <Stamp tone="quiet" icon={<IconDenied className="ic-s" aria-hidden="true" />}>
          {t.stamps.void}
        </Stamp>
      );
    case "pending":
      return null;
  }
}

/** A decision stays, as a stamp beside its exact act. */
export function Decided({ approval }: { approval: Approval }) {
  return (
    <li className="flex flex-wrap items-center gap-x-3 gap-y-1.5 py-2.5">
      <span className="grow max-sm:basis-full">
        <Link href={`/threads/${approval.thread_id}`} className="row-link row">
          <span className="mono font-medium">{approval.action}</span>
          <span className="mono muted trunc">{JSON.stringify(approval.arguments)}</span>
        </Link>
        <span className="small muted block">
          {approval.agent_name}
          {approval.note ? ` · “${approval.note}”` : null}
        </span>
      </span>
      <DecisionStamp approval={approval} />
    </li>
  );
}
