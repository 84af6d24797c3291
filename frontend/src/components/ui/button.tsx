import * as Slot from "radix-ui/slot";
import type { ComponentProps } from "react";

import { cn } from "@/lib/cn";
import { IconBusy } from "./icon";

export interface ButtonProps extends ComponentProps<"button"> {
  variant?: "primary" | "secondary" | "ghost" | "danger" | "danger-solid";
  size?: "m" | "s";
  /** Shows that the act is under way and swallows further clicks; focus stays where it is. */
  busy?: boolean;
  /** Lend the looks to the only child, such as a link. */
  asChild?: boolean;
}

const looks = {
  primary: "primary",
  secondary: "",
  ghost: "ghost",
  danger: "danger",
  "danger-solid": "danger solid",
} as const;

export function Button({
  variant = "secondary",
  size = "m",
  busy = false,
  asChild = false,
  className,
  onClick,
  children,
  ...rest
}: ButtonProps) {
  const classes = cn("btn", looks[variant], size === "s" && "s", className);
  if (asChild) {
    return (
      <Slot.Root data-slot="button" className={classes} onClick={onClick} {...rest}>
        {children}
      </Slot.Root>
    );
  }
  return (
    <button
      data-slot="button"
      type="button"
      {...rest}
      className={classes}
      aria-busy={busy || undefined}
      aria-disabled={busy || undefined}
      onClick={busy ? (event) => event.preventDefault() : onClick}
    >
      {busy ? <IconBusy className="ic-s" aria-hidden="true" /> : null}
      {children}
    </button>
  );
}

/** A button that is only an icon: its label is what a screen reader says and what the tooltip shows. */
export function IconButton({ label, className, ...rest }: ButtonProps & { label: string }) {
  return <Button {...rest} className={cn("icon", className)} aria-label={label} title={label} />;
}
