import type { ReactNode } from "react";

import { cn } from "@/lib/cn";

export function Dots({ centre }: { centre?: boolean }) {
  return <i className={cn("dots", centre && "!self-center")} aria-hidden="true" />;
}

export function Terms({ children, className }: { children: ReactNode; className?: string }) {
  return <dl className={cn("terms", className)}>{children}</dl>;
}

/** A name, a leader, a value. `total` closes a sum with a double rule. */
export function Term({ name, total, children }: { name: ReactNode; total?: boolean; children: ReactNode }) {
  return (
    <div className={cn("term", total && "total")}>
      <dt>{name}</dt>
      <dd className="dots" aria-hidden="true" />
      <dd>{children}</dd>
    </div>
  );
}

/** A section's heading on its ink rule. */
export function SectionHead({ title, count, aside, id }: { title: string; count?: ReactNode; aside?: ReactNode; id?: string }) {
  return (
    <div className="sec-h">
      <h2 id={id}>{title}</h2>
      {count !== undefined ? <span className="cnt">{count}</span> : null}
      {aside ? <span className="push">{aside}</span> : null}
    </div>
  );
}

/** A quantity against a limit, counted in strokes: spent, held, left. Values are shares of one. */
export function Ticks({ spent, held = 0, tone, size = "m", label }: { spent: number; held?: number; tone?: "live" | "over"; size?: "m" | "s"; label: string }) {
  const percent = (share: number) => `${Math.max(0, Math.min(1, share)) * 100}%`;
  return (
    <div
      role="img"
      aria-label={label}
      className={cn("ticks", tone, size === "s" && "s")}
      style={{ "--v": percent(spent), "--h": percent(Math.min(held, 1 - spent)) }}
    />
  );
}
