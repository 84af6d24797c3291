"use client";

import { useApprovals, usePendingApprovals } from "@/api/queries/approvals";
import { ErrorState } from "@/components/error-state";
import { LoadMore } from "@/components/load-more";
import { Frame } from "@/components/shell/frame";
import { Empty } from "@/components/ui/empty";
import { SkeletonRows } from "@/components/ui/skeleton";
import { SectionHead } from "@/components/ui/terms";
import { Voucher } from "@/components/voucher";
import { ago } from "@/lib/format";
import { strings } from "@/lib/strings";
import { useNow } from "@/lib/use-now";
import { Decided } from "./decided";

const t = strings.approvals;

function Waiting() {
  const pending = usePendingApprovals();
  const now = useNow(30_000);
  if (pending.isPending) return <SkeletonRows rows={3} />;
  if (pending.isError && !pending.data) {
    return <ErrorState error={pending.error} onRetry={() => void pending.refetch()} retrying={pending.isFetching} />;
  }
  const items = [...pending.data.items].sort((a, b) => a.created_at.localeCompare(b.created_at));
  return (
    <section aria-labelledby="waiting">
      <SectionHead id="waiting" title={t.waiting} count={items.length} aside={items[0] ? t.oldest(ago(items[0].created_at, now)) : undefined} />
      <div className="col gap-4 pt-4">
        {items.length === 0 ? (
          <Empty title={t.empty}>{t.emptyText}</Empty>
        ) : (
          items.map((approval) => <Voucher key={approval.approval_id + approval.act_hash} approval={approval} away />)
        )}
      </div>
    </section>
  );
}

function Past() {
  const all = useApprovals();
  if (all.isPending) return <SkeletonRows rows={3} />;
  if (all.isError && !all.data) return <ErrorState error={all.error} onRetry={() => void all.refetch()} retrying={all.isFetching} />;
  const items = all.data.pages.flatMap((page) => page.items).filter((one) => one.status !== "pending");
  return (
    <section aria-labelledby="decided">
      <SectionHead id="decided" title={t.decided} />
      {items.length === 0 && !all.hasNextPage ? <p className="small muted pt-3">{t.noneDecided}</p> : null}
      <ul className="rows">
        {items.map((approval) => (
          <Decided key={approval.approval_id} approval={approval} />
        ))}
      </ul>
      <LoadMore query={all} />
    </section>
  );
}

/** Every act that waits for a person, oldest first, and what was decided before. */
export function ApprovalsScreen() {
  return (
    <Frame title={t.title}>
      <div className="mx-auto flex max-w-[760px] flex-col gap-8">
        <Waiting />
        <Past />
      </div>
    </Frame>
  );
}
