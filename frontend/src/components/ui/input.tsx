"use client";

import { useId, type ComponentProps, type ReactNode } from "react";

import { cn } from "@/lib/cn";

export interface FieldProps {
  label: ReactNode;
  /** Stands at the right of the label: a count, a unit, where the value is enforced. */
  aside?: ReactNode;
  hint?: ReactNode;
  error?: ReactNode;
  className?: string;
  children: (wiring: { id: string; "aria-describedby"?: string; "aria-invalid"?: true }) => ReactNode;
}

/** A label, its control, and below it a hint or the error, wired for screen readers. */
export function Field({ label, aside, hint, error, className, children }: FieldProps) {
  const id = useId();
  const below = error ?? hint;
  return (
    <div data-slot="field" className={cn("field", className)}>
      <div className="lab">
        <label htmlFor={id}>{label}</label>
        {aside ? <span className="push mono-s muted">{aside}</span> : null}
      </div>
      {children({
        id,
        "aria-describedby": below ? `${id}-d` : undefined,
        "aria-invalid": error ? true : undefined,
      })}
      {below ? (
        <p id={`${id}-d`} className={cn("hint", error ? "bad" : undefined)} role={error ? "alert" : undefined}>
          {below}
        </p>
      ) : null}
    </div>
  );
}

export function Input({ className, ...rest }: ComponentProps<"input">) {
  return <input data-slot="input" className={cn("input", className)} {...rest} />;
}

/** An input with something before or after its text, inside the same border. */
export function InputGroup({
  before,
  after,
  className,
  mono,
  ...rest
}: ComponentProps<"input"> & { before?: ReactNode; after?: ReactNode; mono?: boolean }) {
  return (
    <span data-slot="input-group" className={cn("input", mono && "mono", rest.disabled && "off", className)}>
      {before}
      <input {...rest} />
      {after}
    </span>
  );
}

export function Textarea({ className, ...rest }: ComponentProps<"textarea">) {
  return <textarea data-slot="textarea" className={cn("area", className)} {...rest} />;
}

/** A value as it stands; dashed when only the server's environment can change it. */
export function ReadOnly({ children, aside, locked = true }: { children: ReactNode; aside?: ReactNode; locked?: boolean }) {
  return (
    <span data-slot="read-only" className={cn("input mono", locked && "ro")}>
      <span className="trunc">{children}</span>
      {aside ? <span className="push muted row flex-none whitespace-nowrap">{aside}</span> : null}
    </span>
  );
}
