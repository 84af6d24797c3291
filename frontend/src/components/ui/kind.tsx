import { strings } from "@/lib/strings";

export type ProviderKind = "centralized" | "decentralized" | "local" | "demo";

/** Where a model runs, as a shape. Stand the word beside it at least once on a page. */
export function KindMark({ kind }: { kind: ProviderKind }) {
  return <i data-slot="kind" role="img" aria-label={strings.kind[kind]} title={strings.kind[kind]} className={`k k-${kind}`} />;
}

export function Kind({ kind }: { kind: ProviderKind }) {
  return (
    <span className="kind">
      <i aria-hidden="true" className={`k k-${kind}`} />
      {strings.kind[kind]}
    </span>
  );
}
