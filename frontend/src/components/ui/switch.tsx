"use client";

import * as Radix from "radix-ui/switch";

export function Switch({
  label,
  checked,
  onChange,
  disabled,
  id,
}: {
  label: string;
  checked: boolean;
  onChange: (checked: boolean) => void;
  disabled?: boolean;
  id?: string;
}) {
  return <Radix.Root data-slot="switch" id={id} className="sw" aria-label={label} checked={checked} onCheckedChange={onChange} disabled={disabled} />;
}
