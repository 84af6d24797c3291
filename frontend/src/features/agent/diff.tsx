"use client";

import { useDiff } from "@/api/queries/agents";
import { ErrorState } from "@/components/error-state";
import { SkeletonRows } from "@/components/ui/skeleton";
import { cn } from "@/lib/cn";
import { strings } from "@/lib/strings";
import { countDiff } from "./model";

function tone(line: string): string {
  if (line.startsWith("+")) return "bg-accent-wash text-accent";
  if (line.startsWith("-")) return "bg-danger-wash text-danger";
  return line.startsWith("@@") ? "text-muted" : "";
}

/** Two configurations' YAML, line by line: + and − say it, colour repeats it. */
export function DiffText({ diff }: { diff: string }) {
  const lines = diff.split("\n").filter((line) => line !== "" && !line.startsWith("+++") && !line.startsWith("---"));
  if (lines.length === 0) return <p className="small muted">{strings.agent.nothingChanged}</p>;
  return (
    <div className="code max-h-[50dvh] !overflow-auto py-1.5" tabIndex={0} role="group">
      {lines.map((line, at) => (
        <div key={at} className={cn("min-w-fit whitespace-pre px-3", tone(line))}>
          {line}
        </div>
      ))}
    </div>
  );
}

export function Diff({ agentId, from, to }: { agentId: string; from: number; to: number | "draft" }) {
  const diff = useDiff(agentId, from, String(to));
  if (diff.isPending) return <SkeletonRows rows={3} />;
  if (diff.isError) return <ErrorState error={diff.error} onRetry={() => void diff.refetch()} retrying={diff.isFetching} />;
  return <DiffText diff={diff.data.diff} />;
}

export function DiffCounts({ diff }: { diff: string }) {
  const { added, removed } = countDiff(diff);
  return (
    <>
      <span className="live">+{added}</span>
      <span className="bad">−{removed}</span>
    </>
  );
}
