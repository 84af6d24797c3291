"use client";

import { useEffect, useState } from "react";

import { Field, InputGroup } from "@/components/ui/input";

/** A number typed as text. Empty is null where that is allowed; what is not a number is said and reported, never guessed. */
export function NumberField<T extends number | null>({
  label,
  value,
  onChange,
  parse,
  show,
  wrong,
  hint,
  unit,
  optional,
  onValidity,
  disabled,
}: {
  label: string;
  value: T;
  onChange: (value: T) => void;
  /** The number in a text, or undefined when there is none that fits. */
  parse: (text: string) => number | undefined;
  show: (value: T) => string;
  wrong: string;
  hint?: string;
  unit?: string;
  optional?: boolean;
  onValidity: (label: string, valid: boolean) => void;
  disabled?: boolean;
}) {
  const [text, setText] = useState(() => show(value));
  const meant = text.trim() === "" && optional ? null : parse(text);
  const valid = meant !== undefined;
  // Changed from outside (another version, the YAML): show that instead of what was typed.
  if (valid && meant !== value) setText(show(value));
  useEffect(() => {
    onValidity(label, valid);
    return () => onValidity(label, true);
  }, [label, valid, onValidity]);
  return (
    <Field label={label} hint={hint} error={valid ? undefined : wrong}>
      {(wiring) => (
        <InputGroup
          {...wiring}
          mono
          inputMode="decimal"
          disabled={disabled}
          value={text}
          after={unit ? <span className="muted">{unit}</span> : null}
          onChange={(event) => {
            const next = event.target.value;
            setText(next);
            const number = next.trim() === "" && optional ? null : parse(next);
            if (number !== undefined) onChange(number as T);
          }}
        />
      )}
    </Field>
  );
}

export const wholeBetween = (min: number, max: number) => (text: string) => {
  const clean = text.replaceAll(/[\s,]/g, "");
  const number = /^\d+$/.test(clean) ? Number(clean) : NaN;
  return number >= min && number <= max ? number : undefined;
};

export const decimalBetween = (min: number, max: number) => (text: string) => {
  const number = /^\s*\d+(\.\d+)?\s*$/.test(text) ? Number(text) : NaN;
  return number >= min && number <= max ? number : undefined;
};
