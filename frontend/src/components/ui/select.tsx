"use client";

import { Select as Radix } from "radix-ui";
import type { ReactNode } from "react";

import { cn } from "@/lib/cn";
import { IconChoose } from "./icon";

export interface SelectOption {
  value: string;
  label: ReactNode;
  aside?: ReactNode;
  disabled?: boolean;
}

/** One of many in a list that opens. Groups carry a heading; `wiring` comes from a Field. */
export function Select({
  value,
  onChange,
  groups,
  placeholder,
  disabled,
  mono,
  className,
  label,
  ...wiring
}: {
  value: string | undefined;
  onChange: (value: string) => void;
  groups: { heading?: string; options: SelectOption[] }[];
  placeholder: string;
  disabled?: boolean;
  mono?: boolean;
  className?: string;
  label?: string;
  id?: string;
  "aria-describedby"?: string;
  "aria-invalid"?: true;
}) {
  return (
    <Radix.Root value={value ?? ""} onValueChange={onChange} disabled={disabled}>
      <Radix.Trigger data-slot="select" className={cn("input", mono && "mono", className)} aria-label={label} {...wiring}>
        <span className="trunc grow">
          <Radix.Value placeholder={<span className="muted">{placeholder}</span>} />
        </span>
        <IconChoose className="ic-s" aria-hidden="true" />
      </Radix.Trigger>
      <Radix.Portal>
        <Radix.Content
          position="popper"
          sideOffset={4}
          collisionPadding={8}
          className="pop rise max-h-[min(360px,var(--radix-select-content-available-height))] w-[var(--radix-select-trigger-width)] min-w-[240px] overflow-hidden"
        >
          <Radix.Viewport>
            {groups.map((group, at) => (
              <Radix.Group key={group.heading ?? at}>
                {group.heading ? (
                  <Radix.Label className="px-2 pb-1 pt-1.5 text-[12px] leading-4 text-muted">{group.heading}</Radix.Label>
                ) : null}
                {group.options.map((option) => (
                  <Radix.Item key={option.value} value={option.value} disabled={option.disabled} className="pop-item data-[state=checked]:font-medium">
                    <span className="trunc grow">
                      <Radix.ItemText>{option.label}</Radix.ItemText>
                    </span>
                    {option.aside ? <span className="mono-s muted whitespace-nowrap">{option.aside}</span> : null}
                  </Radix.Item>
                ))}
              </Radix.Group>
            ))}
          </Radix.Viewport>
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
