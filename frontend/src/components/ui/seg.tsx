"use client";

import * as RadioGroup from "radix-ui/radio-group";

import { strings } from "@/lib/strings";

export interface SegOption<T extends string> {
  value: T;
  label: string;
  tone?: "auto" | "ask";
}

/** A choice among few, all of them visible. Arrow keys move it. */
export function Seg<T extends string>({
  label,
  value,
  onChange,
  options,
  disabled,
}: {
  label: string;
  value: T | undefined;
  onChange: (value: T) => void;
  options: readonly SegOption<T>[];
  disabled?: boolean;
}) {
  return (
    <RadioGroup.Root
      data-slot="seg"
      className="seg"
      aria-label={label}
      value={value ?? ""}
      onValueChange={(next) => onChange(next as T)}
      disabled={disabled}
      orientation="horizontal"
    >
      {options.map((option) => (
        <RadioGroup.Item key={option.value} value={option.value} data-tone={option.tone}>
          {option.label}
        </RadioGroup.Item>
      ))}
    </RadioGroup.Root>
  );
}

export type Permission = "allow" | "ask" | "deny";

const permissions: readonly SegOption<Permission>[] = [
  { value: "allow", label: strings.permission.allow, tone: "auto" },
  { value: "ask", label: strings.permission.ask, tone: "ask" },
  { value: "deny", label: strings.permission.deny },
];

/** auto runs, ask waits for a person, never refuses. */
export function PermissionSeg(props: {
  label: string;
  value: Permission | undefined;
  onChange: (value: Permission) => void;
  disabled?: boolean;
}) {
  return <Seg {...props} options={permissions} />;
}
