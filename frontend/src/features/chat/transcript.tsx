"use client";

import { useVirtualizer } from "@tanstack/react-virtual";
import { useCallback, useEffect, useLayoutEffect, useRef, useState, type RefObject } from "react";

import { Button } from "@/components/ui/button";
import { IconDown } from "@/components/ui/icon";
import { strings } from "@/lib/strings";
import { liveOf, type Entry } from "./entries";
import { EntryView, type EntryActions } from "./entry-view";
import type { RunState } from "./run-state";

const t = strings.chat;

/** Within this many pixels of the end a reader follows what is written; further up nothing moves under his eyes. */
const sticky = 80;
/** Older entries are asked for when the reader comes this near to the beginning. */
const early = 800;

const guesses: Record<Entry["kind"], number> = { user: 60, outgoing: 80, answer: 160, writing: 60, tool: 190, end: 90 };

export interface TranscriptHandle {
  toEnd: () => void;
  toKey: (key: string) => void;
}

export interface TranscriptProps {
  entries: readonly Entry[];
  state: RunState;
  threadNumber: number | undefined;
  actions: EntryActions;
  retrying: string | undefined;
  hasOlder: boolean;
  loadingOlder: boolean;
  onOlder: () => void;
  handle: RefObject<TranscriptHandle | null>;
}

/** The entries of a thread, only those in sight in the page. It follows the end, and stands still once the reader scrolls up. */
export function Transcript({ entries, state, threadNumber, actions, retrying, hasOlder, loadingOlder, onOlder, handle }: TranscriptProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const [away, setAway] = useState<number>();
  const getItemKey = useCallback((index: number) => entries[index]?.key ?? index, [entries]);
  const list = useVirtualizer({
    count: entries.length,
    getScrollElement: () => scroller.current,
    estimateSize: (index) => guesses[entries[index]?.kind ?? "answer"],
    getItemKey,
    overscan: 6,
    gap: 10,
    paddingStart: 16,
    paddingEnd: 12,
    anchorTo: "end",
    followOnAppend: true,
    scrollEndThreshold: sticky,
  });

  const empty = entries.length === 0;
  useLayoutEffect(() => {
    if (!empty) list.scrollToEnd();
  }, [empty, list]);

  // The view shrinks when something docks below it; a reader at the end stays there.
  const stuck = useRef(true);
  useEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const observer = new ResizeObserver(() => {
      if (stuck.current) list.scrollToEnd();
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [list]);

  useEffect(() => {
    handle.current = {
      toEnd: () => list.scrollToEnd(),
      toKey: (key) => {
        const index = entries.findIndex((entry) => entry.key === key);
        if (index !== -1) list.scrollToIndex(index, { align: "end" });
      },
    };
  });

  const onScroll = () => {
    const element = scroller.current;
    if (!element) return;
    // Read from the page: this runs before the list has heard of the scroll.
    const near = element.scrollHeight - element.scrollTop - element.clientHeight <= sticky;
    stuck.current = near;
    setAway((before) => (near ? undefined : (before ?? entries.length)));
    if (hasOlder && !loadingOlder && element.scrollTop < early) onOlder();
  };
  // A short first page may not fill the view, so that nobody can scroll: then ask at once.
  useEffect(() => {
    const element = scroller.current;
    if (element && hasOlder && !loadingOlder && entries.length > 0 && element.scrollHeight <= element.clientHeight + early) onOlder();
  }, [entries.length, hasOlder, loadingOlder, onOlder]);

  const fresh = away === undefined ? 0 : Math.max(0, entries.length - away);
  return (
    <div className="tr-box">
      <div ref={scroller} className="scroll" tabIndex={0} role="region" aria-label={t.transcript} onScroll={onScroll}>
        <div className="book">
          <div className="rows-box" style={{ height: list.getTotalSize() }}>
            {list.getVirtualItems().map((item) => {
              const entry = entries[item.index];
              if (!entry) return null;
              return (
                <div key={item.key} ref={list.measureElement} data-index={item.index} className="row-box" style={{ transform: `translateY(${item.start}px)` }}>
                  <EntryView
                    entry={entry}
                    live={entry.kind === "tool" ? liveOf(entry, state.tools) : undefined}
                    restart={entry.kind === "writing" ? state.restart : null}
                    routed={state.routed}
                    threadNumber={threadNumber}
                    retrying={entry.kind === "end" && retrying === entry.run.run_id}
                    actions={actions}
                  />
                </div>
              );
            })}
          </div>
        </div>
      </div>
      {loadingOlder ? (
        <p className="older mono-s muted" role="status">
          {t.olderLoading}
        </p>
      ) : null}
      {away !== undefined ? (
        <div className="jump">
          <Button size="s" onClick={() => list.scrollToEnd()}>
            <IconDown className="ic-s" aria-hidden="true" />
            {fresh > 0 ? t.jumpNew(fresh) : t.jump}
          </Button>
        </div>
      ) : null}
    </div>
  );
}
