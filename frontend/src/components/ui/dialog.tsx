"use client";

import { lazy, Suspense, useState, type ReactNode } from "react";

import { strings } from "@/lib/strings";
import { Button } from "./button";
import type { DialogProps } from "./dialog-props";

const DialogBox = lazy(() => import("./dialog-box"));

/** A dialog. Its code comes when the first one opens. */
export function Dialog(props: DialogProps) {
  const [used, setUsed] = useState(props.open);
  if (props.open && !used) setUsed(true);
  if (!used) return null;
  return (
    <Suspense fallback={null}>
      <DialogBox {...props} />
    </Suspense>
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
