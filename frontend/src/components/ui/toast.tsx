"use client";

import { useSyncExternalStore, type ReactNode } from "react";

import { cn } from "@/lib/cn";
import { strings } from "@/lib/strings";
import { Button } from "./button";
import { IconClose, IconDone } from "./icon";

export interface Toast {
  text: ReactNode;
  tone?: "done" | "bad";
  icon?: ReactNode;
  /** One verb, such as Undo. Taking it closes the toast. */
  action?: { label: string; run: () => void };
  /** Runs when the toast goes without its action having been taken. */
  onGone?: () => void;
  /** Milliseconds on screen. */
  stay?: number;
}

interface Shown extends Toast {
  id: number;
  timer: ReturnType<typeof setTimeout>;
}

let shown: readonly Shown[] = [];
let next = 1;
const listeners = new Set<() => void>();

function set(toasts: readonly Shown[]): void {
  shown = toasts;
  for (const listener of listeners) listener();
}

function close(id: number, acted: boolean): void {
  const found = shown.find((one) => one.id === id);
  if (!found) return;
  clearTimeout(found.timer);
  set(shown.filter((one) => one.id !== id));
  if (!acted) found.onGone?.();
}

/** Show a toast; answers a function that closes it early. At most three stand at once, the oldest goes. */
export function toast(one: Toast): () => void {
  const id = next++;
  const timer = setTimeout(() => close(id, false), one.stay ?? (one.action ? 6000 : 4000));
  const oldest = shown.length >= 3 ? shown[0] : undefined;
  set([...shown, { ...one, id, timer }]);
  if (oldest) close(oldest.id, false);
  return () => close(id, false);
}

const none: readonly Shown[] = [];

/** The place where toasts stand; mounted once, in the root layout. */
export function Toaster() {
  const toasts = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => shown,
    () => none,
  );
  return (
    <div
      role="status"
      aria-live="polite"
      className="pointer-events-none fixed right-4 top-14 z-[70] flex w-[360px] max-w-[calc(100vw-32px)] flex-col gap-2"
    >
      {toasts.map((one) => (
        <div key={one.id} data-slot="toast" className="toast rise pointer-events-auto">
          <span className={cn(one.tone === "bad" && "bad")}>
            {one.icon ??
              (one.tone === "bad" ? (
                <IconClose className="ic-s" aria-hidden="true" />
              ) : (
                <IconDone className="ic-s" aria-hidden="true" />
              ))}
          </span>
          <span className="grow">{one.text}</span>
          {one.action ? (
            <Button
              variant="ghost"
              size="s"
              onClick={() => {
                one.action?.run();
                close(one.id, true);
              }}
            >
              {one.action.label}
            </Button>
          ) : (
            <button className="muted" aria-label={strings.common.dismiss} onClick={() => close(one.id, false)}>
              <IconClose className="ic-s" aria-hidden="true" />
            </button>
          )}
        </div>
      ))}
    </div>
  );
}
