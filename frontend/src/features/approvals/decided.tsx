import Link from "next/link";

import type { Approval } from "@/api/types";
import { ApprovalStamp } from "@/components/approval-stamp";

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
      <ApprovalStamp approval={approval} />
    </li>
  );
}
