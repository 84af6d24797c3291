"use client";

import * as Radix from "radix-ui/tabs";
import type { ReactNode } from "react";

import { cn } from "@/lib/cn";

export interface Tab<T extends string> {
  value: T;
  label: ReactNode;
  content: ReactNode;
}

export function Tabs<T extends string>({
  label,
  value,
  onChange,
  tabs,
  className,
}: {
  label: string;
  value: T;
  onChange: (value: T) => void;
  tabs: Tab<T>[];
  className?: string;
}) {
  return (
    <Radix.Root data-slot="tabs" value={value} onValueChange={(next) => onChange(next as T)} className={cn("col", className)}>
      <Radix.List className="tabs" aria-label={label}>
        {tabs.map((tab) => (
          <Radix.Trigger key={tab.value} value={tab.value}>
            {tab.label}
          </Radix.Trigger>
        ))}
      </Radix.List>
      {tabs.map((tab) => (
        <Radix.Content key={tab.value} value={tab.value} tabIndex={-1} className="min-w-0 outline-none">
          {tab.content}
        </Radix.Content>
      ))}
    </Radix.Root>
  );
}
