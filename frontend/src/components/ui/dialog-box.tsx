"use client";

import * as Radix from "radix-ui/dialog";

import { cn } from "@/lib/cn";
import { strings } from "@/lib/strings";
import type { DialogProps } from "./dialog-props";
import { IconClose } from "./icon";

const widths = { m: "max-w-[440px]", l: "max-w-[640px]", xl: "max-w-[920px]" } as const;

/** A dialog on its sheet. */
export default function DialogBox({ open, onOpenChange, title, description, children, footer, size = "m" }: DialogProps) {
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
