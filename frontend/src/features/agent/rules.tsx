"use client";

import { useDeleteRule, useRules } from "@/api/queries/agents";
import { errorText, ErrorState } from "@/components/error-state";
import { Badge } from "@/components/ui/badge";
import { IconButton } from "@/components/ui/button";
import { Empty } from "@/components/ui/empty";
import { IconDelete } from "@/components/ui/icon";
import { SkeletonRows } from "@/components/ui/skeleton";
import { toast } from "@/components/ui/toast";
import { ago } from "@/lib/format";
import { strings } from "@/lib/strings";

const t = strings.agent;

/** What was answered with "always": removing a rule makes the agent ask again. */
export function Rules({ agentId }: { agentId: string }) {
  const rules = useRules(agentId);
  const remove = useDeleteRule(agentId);
  if (rules.isPending) return <SkeletonRows rows={2} />;
  if (rules.isError) return <ErrorState error={rules.error} onRetry={() => void rules.refetch()} retrying={rules.isFetching} />;
  const items = rules.data.items;
  if (items.length === 0) return <Empty title={t.rulesEmpty}>{t.rulesText}</Empty>;
  return (
    <ul className="rows">
      {items.map((rule) => (
        <li key={rule.rule_id} className="flex items-center gap-3 py-2">
          <span className="mono w-[120px] flex-none font-medium">{rule.action}</span>
          <code className="mono trunc grow" title={JSON.stringify(rule.pattern, null, 2)}>
            {JSON.stringify(rule.pattern)}
          </code>
          <Badge tone={rule.decision === "deny" ? "bad" : rule.decision === "ask" ? "warn" : "live"}>{strings.permission[rule.decision]}</Badge>
          <time className="small muted max-sm:hidden" dateTime={rule.created_at}>
            {ago(rule.created_at)}
          </time>
          <IconButton
            size="s"
            variant="ghost"
            label={t.rulesRemove(rule.action)}
            onClick={() =>
              remove.mutate(rule.rule_id, {
                onSuccess: () => toast({ text: t.ruleRemoved }),
                onError: (error) => toast({ text: errorText(error), tone: "bad" }),
              })
            }
          >
            <IconDelete className="ic-s" aria-hidden="true" />
          </IconButton>
        </li>
      ))}
    </ul>
  );
}
