import type { Approval } from "@/api/types";
import { clock, date } from "@/lib/format";
import { strings } from "@/lib/strings";
import { Stamp } from "./ui/badge";
import { IconClose, IconDenied, IconDone, IconQueued } from "./ui/icon";

const t = strings.chat.approval;

function when(approval: Approval): string {
  const iso = approval.decided_at ?? approval.expires_at;
  return new Date(iso).toDateString() === new Date().toDateString() ? clock(iso) : `${date(iso)}, ${clock(iso)}`;
}

/** A decision that was made. It stays where the act stands. */
export function ApprovalStamp({ approval }: { approval: Approval }) {
  switch (approval.status) {
    case "approved":
    case "used":
      return <Stamp icon={<IconDone className="ic-s" aria-hidden="true" />}>{t.approved(when(approval))}</Stamp>;
    case "denied":
      return (
        <Stamp tone="bad" icon={<IconClose className="ic-s" aria-hidden="true" />}>
          {t.denied(when(approval))}
        </Stamp>
      );
    case "expired":
      return (
        <Stamp tone="quiet" icon={<IconQueued className="ic-s" aria-hidden="true" />}>
          {t.expiredAt(when(approval))}
        </Stamp>
      );
    case "void":
      return (
        <Stamp tone="quiet" icon={<IconDenied className="ic-s" aria-hidden="true" />}>
          {t.void}
        </Stamp>
      );
    case "pending":
      return null;
  }
}
