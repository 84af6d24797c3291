"use client";

import Link from "next/link";
import { useState } from "react";

import { isProblem } from "@/api/problem";
import { useDecide } from "@/api/queries/approvals";
import type { Approval } from "@/api/types";
import { ErrorState } from "@/components/error-state";
import { Arguments } from "@/components/arguments";
import { Button } from "@/components/ui/button";
import { ConfirmDialog } from "@/components/ui/dialog";
import { CopyRef } from "@/components/ui/copy";
import { Field, Input } from "@/components/ui/input";
import { useDelayed } from "@/components/ui/skeleton";
import { Term, Terms } from "@/components/ui/terms";
import { toast } from "@/components/ui/toast";
import { ago, left } from "@/lib/format";
import { strings } from "@/lib/strings";

const t = strings.approvals;

/** Nobody approves what he has not had time to see. */
const pause = 500;

const shortHash = (hash: string): string => `${hash.slice(0, 4)}…${hash.slice(-4)}`;

/** An act that waits: its exact terms above the perforation, the signature below. */
export function Voucher({ approval, now }: { approval: Approval; now: number }) {
  const decide = useDecide();
  const seen = useDelayed(pause);
  const [ask, setAsk] = useState<"deny" | "always">();
  const [note, setNote] = useState("");
  const expired = Date.parse(approval.expires_at) <= now;
  const off = !seen || expired;
  const answer = async (decision: "approve" | "deny", always = false) => {
    await decide.mutateAsync({ approval, decision, always, note });
    toast({ text: decision === "approve" ? t.stamps.approved("") : t.stamps.denied("") });
  };
  const gone = isProblem(decide.error, 409) || isProblem(decide.error, 410);
  return (
    <article className="vch" aria-label={t.approve(approval.action)}>
      <div className="hd">
        <span className="trunc">{t.asked(approval.agent_name, ago(approval.created_at, now))}</span>
        <span className="push mono-s" role="timer">
          {expired ? t.stamps.expired("") : t.left(left(approval.expires_at, now))}
        </span>
      </div>
      <div className="bd col gap-3">
        <div className="mono text-[15px] font-semibold">{approval.action}</div>
        <Arguments value={approval.arguments} />
        <Terms>
          <Term name={t.reason}>
            <span className="font-sans">{approval.reason}</span>
          </Term>
          <Term name={t.act}>
            <CopyRef text={approval.act_hash} shown={shortHash(approval.act_hash)} />
          </Term>
        </Terms>
        {decide.isError && ask === undefined ? gone ? <p className="small warn">{t.gone}</p> : <ErrorState error={decide.error} /> : null}
      </div>
      <div className="sg">
        <Button variant="primary" disabled={off} busy={decide.isPending && ask === undefined} onClick={() => void answer("approve").catch(() => undefined)}>
          {t.approve(approval.action)}
        </Button>
        <Button disabled={off} onClick={() => setAsk("deny")}>
          {t.deny}
        </Button>
        {approval.pattern ? (
          <Button variant="ghost" disabled={off} onClick={() => setAsk("always")}>
            {t.always}
          </Button>
        ) : null}
        <Link href={`/threads/${approval.thread_id}`} className="link small push">
          {t.thread}
        </Link>
      </div>
      <ConfirmDialog
        open={ask === "always"}
        onOpenChange={() => setAsk(undefined)}
        tone="primary"
        title={t.alwaysTitle(approval.action)}
        description={t.alwaysText(approval.agent_name)}
        verb={t.alwaysVerb}
        onConfirm={() => answer("approve", true)}
      >
        <Arguments value={approval.pattern ?? {}} />
      </ConfirmDialog>
      <ConfirmDialog
        open={ask === "deny"}
        onOpenChange={() => setAsk(undefined)}
        title={t.denyTitle(approval.action)}
        description={t.denyText}
        verb={t.denyVerb}
        onConfirm={() => answer("deny")}
      >
        <Field label={t.denyNote}>
          {(wiring) => <Input {...wiring} maxLength={2000} value={note} onChange={(event) => setNote(event.target.value)} />}
        </Field>
      </ConfirmDialog>
    </article>
  );
}
