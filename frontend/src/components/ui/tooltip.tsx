"use client";

import * as Radix from "radix-ui/tooltip";
import type { ReactNode } from "react";

/** Says more about its trigger on hover and focus. Never the only place a fact is told: a finger cannot hover. */
export function Tooltip({ text, children, side = "top" }: { text: ReactNode; children: ReactNode; side?: "top" | "right" | "bottom" }) {
  return (
    <Radix.Provider delayDuration={400}>
      <Radix.Root>
        <Radix.Trigger asChild>{children}</Radix.Trigger>
        <Radix.Portal>
          <Radix.Content data-slot="tooltip" side={side} sideOffset={6} collisionPadding={8} className="pop rise small max-w-[320px] !px-2 !py-1">
            {text}
          </Radix.Content>
        </Radix.Portal>
      </Radix.Root>
    </Radix.Provider>
  );
}
