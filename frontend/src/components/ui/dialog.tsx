"use client";

import * as Radix from "radix-ui/dialog";
import { useState, type ReactNode } from "react";

import { cn } from "@/lib/cn";
import { strings } from "@/lib/strings";
import { Button } from "./button";
import { IconClose } from "./icon";

export interface DialogProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  description?: ReactNode;
  children?: ReactNode;
  /** The verbs, below the perforation. */
  footer?: ReactNode;
  size?: "m" | "l" | "xl";
}

const widths = { m: "max-w-[440px]", l: "max-w-[640px]", xl: "max-w-[920px]" } as const;

export function Dialog({ open, onOpenChange, title, description, children, footer, size = "m" }: DialogProps) {
  return (
    <Radix.Root open={open} onOpenChange={onOpenChange}>
      <Radix.Portal>
        <Radix.Overlay className="shade" />
        <Radix.Content
          data-slot="dialog"
          className={cn(
            "dialog rise fixed left-1/2 top-1/2 z-[51] flex max-h-[calc(100dvh-32px)] w-[calc(100vw-32px)] -translate-x-1/2 -translate-y-1/2 flex-col",
            widths[size],
          )}
          {...(description ? {} : { "aria-describedby": undefined })}
        >
          <div className="grow overflow-auto px-5 py-4">
            <Radix.Title className="mr-8 text-[16px] font-semibold leading-6">{title}</Radix.Title>
            {description ? <Radix.Description className="small ink2 mt-1">{description}</Radix.Description> : null}
            {children ? <div className="mt-3">{children}</div> : null}
          </div>
          {footer ? (
            <>
              <div className="perf" />
              <div className="flex flex-wrap justify-end gap-2 px-5 py-3">{footer}</div>
            </>
          ) : null}
          {/* Last in order, so that the keyboard starts at what the dialog is about. */}
          <Radix.Close className="btn ghost s icon !absolute right-3 top-3" aria-label={strings.common.close}>
            <IconClose className="ic-s" aria-hidden="true" />
          </Radix.Close>
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

export interface ConfirmProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  /** Names the exact object: `Delete “Meridian”?` */
  title: string;
  description?: ReactNode;
  /** The terms of the act, above the perforation. */
  children?: ReactNode;
  verb: string;
  cancel?: string;
  tone?: "primary" | "danger-solid";
  /** Closes the dialog when it resolves; what it throws is shown and the dialog stays. */
  onConfirm: () => Promise<unknown>;
}

export function ConfirmDialog({ verb, cancel, tone = "danger-solid", onConfirm, onOpenChange, children, ...rest }: ConfirmProps) {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string>();
  const close = (open: boolean) => {
    setFailure(undefined);
    onOpenChange(open);
  };
  const confirm = async () => {
    setBusy(true);
    setFailure(undefined);
    try {
      await onConfirm();
      onOpenChange(false);
    } catch (error) {
      setFailure(error instanceof Error ? error.message : strings.common.unknownError);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Dialog
      {...rest}
      onOpenChange={close}
      footer={
        <>
          <Button onClick={() => close(false)}>{cancel ?? strings.common.cancel}</Button>
          <Button variant={tone} busy={busy} onClick={() => void confirm()}>
            {verb}
          </Button>
        </>
      }
    >
      {children}
      {failure ? (
        <p role="alert" className="small bad mt-2">
          {failure}
        </p>
      ) : null}
    </Dialog>
  );
}
