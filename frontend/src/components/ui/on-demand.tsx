"use client";

import * as Slot from "radix-ui/slot";
import { Suspense, useState, type KeyboardEvent, type ReactElement, type ReactNode } from "react";

/**
 * A trigger that stands alone until somebody wants what it opens; then `children`, which draw it anew with what it opens, take its place.
 * `load` brings their code, and is called when somebody comes near.
 */
export function OnDemand({ trigger, popup, load, children }: { trigger: ReactElement; popup: "menu" | "dialog"; load: () => Promise<unknown>; children: ReactNode }) {
  const [wanted, setWanted] = useState(false);
  const near = () => void load().catch(() => undefined);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown" && popup === "menu") setWanted(true);
  };
  const alone = (
    <Slot.Root aria-haspopup={popup} aria-expanded={false} onPointerEnter={near} onFocus={near} onClick={() => setWanted(true)} onKeyDown={onKeyDown}>
      {trigger}
    </Slot.Root>
  );
  return wanted ? <Suspense fallback={alone}>{children}</Suspense> : alone;
}
