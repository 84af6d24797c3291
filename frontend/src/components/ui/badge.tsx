import type { ReactNode } from "react";

import { cn } from "@/lib/cn";

export type Tone = "plain" | "live" | "warn" | "bad";

export function Badge({
  tone = "plain",
  look,
  children,
  title,
}: {
  tone?: Tone;
  /** `net` is for networks and other small capitals; `demo` is dashed. */
  look?: "net" | "demo";
  children: ReactNode;
  title?: string;
}) {
  return (
    <span data-slot="badge" title={title} className={cn("badge", tone !== "plain" && tone, look)}>
      {children}
    </span>
  );
}

/** A state: its mark (an icon) carries it, colour only repeats it. */
export function StateMark({ tone = "plain", icon, children }: { tone?: Tone; icon?: ReactNode; children: ReactNode }) {
  return (
    <span data-slot="state" className={cn("st", tone !== "plain" && tone)}>
      {icon}
      {children}
    </span>
  );
}

/** A decision that was made: it stays. */
export function Stamp({ tone = "live", icon, children }: { tone?: "live" | "bad" | "quiet"; icon?: ReactNode; children: ReactNode }) {
  return (
    <span data-slot="stamp" className={cn("stamp", tone !== "live" && tone)}>
      {icon}
      {children}
    </span>
  );
}
