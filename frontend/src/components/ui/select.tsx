import type { ComponentProps } from "react";

import { cn } from "@/lib/cn";
import { IconDown } from "./icon";

export interface SelectOption {
  value: string;
  label: string;
  disabled?: boolean;
}

/** One of many, as the platform's own list: it is right on every device. Groups may carry a heading; `wiring` comes from a Field. */
export function Select({
  value,
  onChange,
  groups,
  placeholder,
  mono,
  className,
  label,
  ...wiring
}: Omit<ComponentProps<"select">, "onChange" | "value"> & {
  value: string | undefined;
  onChange: (value: string) => void;
  groups: { heading?: string; options: SelectOption[] }[];
  placeholder: string;
  mono?: boolean;
  label?: string;
}) {
  const options = (list: SelectOption[]) =>
    list.map((option) => (
      <option key={option.value} value={option.value} disabled={option.disabled}>
        {option.label}
      </option>
    ));
  return (
    <span className={cn("relative block min-w-0", className)}>
      <select
        data-slot="select"
        className={cn("input trunc appearance-none !pr-8", mono && "mono")}
        aria-label={label}
        value={value ?? ""}
        onChange={(event) => onChange(event.target.value)}
        {...wiring}
      >
        {value === undefined || value === "" ? (
          <option value="" disabled>
            {placeholder}
          </option>
        ) : null}
        {groups.map((group) =>
          group.heading ? (
            <optgroup key={group.heading} label={group.heading}>
              {options(group.options)}
            </optgroup>
          ) : (
            options(group.options)
          ),
        )}
      </select>
      <IconDown className="ic-s pointer-events-none absolute right-2.5 top-1/2 -translate-y-1/2" aria-hidden="true" />
    </span>
  );
}
