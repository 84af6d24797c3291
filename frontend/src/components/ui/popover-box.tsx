"use client";

import * as Radix from "radix-ui/popover";
import { useState, type ReactElement, type ReactNode } from "react";

import { cn } from "@/lib/cn";

export interface PopoverProps {
  /** One focusable element. */
  trigger: ReactElement;
  children: (close: () => void) => ReactNode;
  side?: "top" | "bottom";
  className?: string;
}

/** A popover that begins open. */
export default function PopoverBox({ trigger, children, side = "bottom", className }: PopoverProps) {
  const [open, setOpen] = useState(true);
  return (
    <Radix.Root open={open} onOpenChange={setOpen}>
      <Radix.Trigger asChild>{trigger}</Radix.Trigger>
      <Radix.Portal>
        <Radix.Content className={cn("pop rise max-w-[calc(100vw-16px)]", className)} align="start" side={side} sideOffset={4} collisionPadding={8}>
          {children(() => setOpen(false))}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
