"use client";

import * as Radix from "radix-ui/dropdown-menu";
import type { ReactElement, ReactNode } from "react";

import { MenuContext } from "./menu-parts";

export interface MenuProps {
  /** One focusable element. */
  trigger: ReactElement;
  children: ReactNode;
  align?: "start" | "end";
}

/** A menu that begins open. */
export default function MenuBox({ trigger, children, align = "end" }: MenuProps) {
  return (
    <Radix.Root defaultOpen>
      <Radix.Trigger asChild>{trigger}</Radix.Trigger>
      <Radix.Portal>
        <Radix.Content data-slot="menu" className="pop rise min-w-[200px] max-w-[320px]" align={align} sideOffset={4} collisionPadding={8}>
          <MenuContext value={Radix}>{children}</MenuContext>
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
