"use client";

import { useHealth } from "@/api/queries/health";
import { useConfig } from "@/api/queries/session";
import { ErrorState } from "@/components/error-state";
import { StateMark } from "@/components/ui/badge";
import { Button } from "@/components/ui/button";
import { IconClose, IconDone } from "@/components/ui/icon";
import { SkeletonRows } from "@/components/ui/skeleton";
import { SectionHead } from "@/components/ui/terms";
import { strings } from "@/lib/strings";

const t = strings.settings;

function Part({ name, ok, detail, fix }: { name: string; ok: boolean; detail: string; fix: string }) {
  return (
    <li className="grid grid-cols-[minmax(0,1fr)_auto] items-center gap-x-4 py-2.5 sm:grid-cols-[140px_minmax(0,1fr)_auto]">
      <span className="mono font-medium">{name}</span>
      <span className="small max-sm:col-span-2 max-sm:row-start-2">
        <span className={ok ? "muted" : undefined}>{detail}</span>
        {!ok && fix ? <code className="ic-code mt-1 block w-fit max-w-full [overflow-wrap:anywhere]">{fix}</code> : null}
      </span>
      <StateMark tone={ok ? "plain" : "bad"} icon={ok ? <IconDone className="ic-s" aria-hidden="true" /> : <IconClose className="ic-s" aria-hidden="true" />}>
        {ok ? t.healthFine : t.healthOff}
      </StateMark>
    </li>
  );
}

export function HealthTab() {
  const health = useHealth(10_000);
  const config = useConfig();
  if (health.isPending) return <SkeletonRows rows={5} />;
  if (health.isError) return <ErrorState error={health.error} onRetry={() => void health.refetch()} retrying={health.isFetching} />;
  const off = health.data.parts.filter((part) => !part.ok).length;
  return (
    <section aria-labelledby="health">
      <SectionHead id="health" title={t.health} aside={off === 0 ? t.allFine : t.someOff(off)} />
      <ul className="rows">
        {health.data.parts.map((part) => (
          <Part key={part.name} name={part.name} ok={part.ok} detail={part.detail ?? ""} fix={part.fix ?? ""} />
        ))}
      </ul>
      <div className="row pt-4">
        <Button busy={health.isFetching} onClick={() => void health.refetch()}>
          {t.checkAgain}
        </Button>
        {config.data ? <span className="mono-s muted push">{t.versionIs(config.data.version)}</span> : null}
      </div>
    </section>
  );
}
