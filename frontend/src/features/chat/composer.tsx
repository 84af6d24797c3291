"use client";

import Link from "next/link";
import { useEffect, useLayoutEffect, useRef, useState, type KeyboardEvent, type ReactNode } from "react";

import { useModels } from "@/api/queries/inference";
import { ModelPicker } from "@/components/model-picker";
import { Button, IconButton } from "@/components/ui/button";
import { IconSend, IconStop } from "@/components/ui/icon";
import { Kbd } from "@/components/ui/kbd";
import { Seg } from "@/components/ui/seg";
import { strings } from "@/lib/strings";
import { readDraft, writeDraft } from "./drafts";
import type { NewMessage } from "./use-thread";

const t = strings.chat.composer;

type Busy = NewMessage["ifBusy"];

export interface ComposerProps {
  /** What the draft is kept under. */
  draftKey: string;
  agent: string;
  /** A first text, when nothing was typed here before. */
  initial?: string;
  running: boolean;
  stopping: boolean;
  onSend: (message: NewMessage) => void;
  onStop: () => void;
  /** Says why nothing can be sent, in words. */
  blocked?: ReactNode;
  sending?: boolean;
  /** A text given back for another try; a new object puts it into an empty field. */
  returned?: { text: string };
}

/** The text, kept over reloads of the tab. */
function useDraft(key: string, initial: string): [string, (text: string) => void] {
  const [text, setText] = useState(() => readDraft(key) || initial);
  const change = (next: string) => {
    setText(next);
    writeDraft(key, next);
  };
  return [text, change];
}

const isField = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName));

const inOverlay = (target: EventTarget | null): boolean => target instanceof Element && target.closest("[role=dialog],[role=menu],[role=listbox]") !== null;

/** `/` reaches the field from anywhere; Escape stops the run unless it closes something first. */
function useShortcuts(field: { current: HTMLTextAreaElement | null }, stop: (() => void) | undefined): void {
  useEffect(() => {
    const onKey = (event: globalThis.KeyboardEvent) => {
      if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey) return;
      if (event.key === "/" && !isField(event.target)) {
        event.preventDefault();
        field.current?.focus();
      } else if (event.key === "Escape" && stop && !inOverlay(event.target) && !document.querySelector("[role=dialog][data-state=open]")) {
        stop();
      }
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [field, stop]);
}

export function Composer({ draftKey, agent, initial = "", running, stopping, onSend, onStop, blocked, sending = false, returned }: ComposerProps) {
  const [text, setText] = useDraft(draftKey, initial);
  const [model, setModel] = useState("");
  const [ifBusy, setIfBusy] = useState<Busy>("enqueue");
  const field = useRef<HTMLTextAreaElement>(null);
  const models = useModels();
  const noModel = models.data?.length === 0;
  useShortcuts(field, running && !stopping ? onStop : undefined);

  const [taken, setTaken] = useState(returned);
  if (returned !== taken) {
    setTaken(returned);
    if (returned && !text) setText(returned.text);
  }

  useLayoutEffect(() => {
    const element = field.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight}px`;
  }, [text]);

  const ready = text.trim() !== "" && !noModel && !blocked && !sending;
  const send = () => {
    if (!ready) return;
    onSend({ content: text.trim(), model, ifBusy: running ? ifBusy : "enqueue" });
    setText("");
    // The draft outlives the field until the server has the message.
    writeDraft(draftKey, text.trim());
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    send();
  };
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      {noModel || blocked ? (
        <p className="small px-3 pt-2" role="status">
          {noModel ? (
            <>
              {t.noModel}{" "}
              <Link className="link" href="/settings?tab=providers">
                {t.connect}
              </Link>
            </>
          ) : (
            blocked
          )}
        </p>
      ) : null}
      <div className="cbar">
        <textarea
          ref={field}
          rows={1}
          className="ctext"
          aria-label={t.label}
          placeholder={running ? t.busyPlaceholder : agent ? t.placeholder(agent) : t.placeholderAny}
          title={t.hint}
          maxLength={1_000_000}
          value={text}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={onKeyDown}
        />
        <div className="cacts">
          {running ? (
            <Seg<Busy>
              label={t.busyLabel}
              value={ifBusy}
              onChange={setIfBusy}
              options={[
                { value: "enqueue", label: t.queue },
                { value: "interrupt", label: t.interrupt },
              ]}
            />
          ) : (
            <span className="cmodel">
              <ModelPicker size="quiet" value={model} onChange={setModel} allowDefault defaultLabel={t.agentsModel} label={t.model} />
            </span>
          )}
          {running ? (
            <Button size="s" busy={stopping} onClick={onStop}>
              {stopping ? null : <IconStop className="ic-s" fill="currentColor" aria-hidden="true" />}
              {stopping ? t.stopping : t.stop}
              <Kbd>Esc</Kbd>
            </Button>
          ) : null}
          <IconButton size="s" type="submit" label={t.send} variant={ready ? "primary" : "secondary"} busy={sending} aria-disabled={!ready || undefined}>
            <IconSend className="ic" aria-hidden="true" />
          </IconButton>
        </div>
      </div>
    </form>
  );
}
