"use client";

import * as Radix from "radix-ui/dialog";
import type { ReactNode } from "react";

import { IconClose } from "@/components/ui/icon";
import { strings } from "@/lib/strings";

const t = strings.chat.files;

/** The workspace on a narrow page: a sheet over the chat. */
export default function FilesSheet({ open, onOpenChange, children }: { open: boolean; onOpenChange: (open: boolean) => void; children: ReactNode }) {
  return (
    <Radix.Root open={open} onOpenChange={onOpenChange}>
      <Radix.Portal>
        <Radix.Overlay className="shade" />
        <Radix.Content className="ws-sheet rise" aria-describedby={undefined}>
          <div className="row ws-head">
            <Radix.Title asChild>
              <h3>{t.title}</h3>
            </Radix.Title>
            <Radix.Close className="btn ghost s icon push" aria-label={t.close}>
              <IconClose className="ic-s" aria-hidden="true" />
            </Radix.Close>
          </div>
          {children}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
