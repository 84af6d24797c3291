"use client";

import * as Radix from "radix-ui/dropdown-menu";
import type { ReactNode } from "react";

import { cn } from "@/lib/cn";

/** A menu that hangs below its trigger. The trigger must be one focusable element. */
export function Menu({
  trigger,
  children,
  align = "end",
}: {
  trigger: ReactNode;
  children: ReactNode;
  align?: "start" | "end";
}) {
  return (
    <Radix.Root>
      <Radix.Trigger asChild>{trigger}</Radix.Trigger>
      <Radix.Portal>
        <Radix.Content data-slot="menu" className="pop rise min-w-[200px] max-w-[320px]" align={align} sideOffset={4} collisionPadding={8}>
          {children}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

export function MenuItem({
  icon,
  aside,
  tone,
  disabled,
  onSelect,
  children,
}: {
  icon?: ReactNode;
  aside?: ReactNode;
  tone?: "bad";
  disabled?: boolean;
  onSelect?: () => void;
  children: ReactNode;
}) {
  return (
    <Radix.Item className={cn("pop-item", tone)} disabled={disabled} onSelect={onSelect}>
      {icon}
      <span className="grow">{children}</span>
      {aside}
    </Radix.Item>
  );
}

export function MenuRadio<T extends string>({
  value,
  onChange,
  options,
}: {
  value: T;
  onChange: (value: T) => void;
  options: { value: T; label: string; icon?: ReactNode }[];
}) {
  return (
    <Radix.RadioGroup value={value} onValueChange={(next) => onChange(next as T)}>
      {options.map((option) => (
        <Radix.RadioItem key={option.value} value={option.value} className="pop-item">
          {option.icon}
          <span className="grow">{option.label}</span>
          <Radix.ItemIndicator>✓</Radix.ItemIndicator>
        </Radix.RadioItem>
      ))}
    </Radix.RadioGroup>
  );
}

export function MenuSeparator() {
  return <Radix.Separator className="hr my-1" />;
}

export function MenuLabel({ children }: { children: ReactNode }) {
  return <Radix.Label className="px-2 pb-1 pt-1.5 text-[12px] leading-4 text-muted">{children}</Radix.Label>;
}
