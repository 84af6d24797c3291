"use client";

import { useEffect, useLayoutEffect, useRef, useState, type KeyboardEvent } from "react";

import type { YamlError } from "@/api/types";
import { cn } from "@/lib/cn";
import { strings } from "@/lib/strings";
import { IconClose } from "./ui/icon";

const t = strings.agent;
const lineHeight = 20;

/** Where a line and column (both from 1) are in a text. */
export function offsetOf(text: string, line: number, column: number): number {
  const lines = text.split("\n");
  const before = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  return Math.min(text.length, before + Math.max(0, Math.min(column - 1, (lines[line - 1] ?? "").length)));
}

/** YAML as text with line numbers; a wrong line is marked where it stands and its errors are listed below. */
export function YamlEditor({
  value,
  onChange,
  errors,
  label = t.yamlLabel,
  minRows = 12,
  fill,
}: {
  value: string;
  onChange: (value: string) => void;
  errors: readonly YamlError[];
  label?: string;
  minRows?: number;
  /** Take the height that is there and scroll inside. */
  fill?: boolean;
}) {
  const area = useRef<HTMLTextAreaElement>(null);
  const caret = useRef<number | undefined>(undefined);
  const [top, setTop] = useState(0);
  const lines = value.split("\n").length;
  const wrong = new Map(errors.map((error) => [error.line, error]));

  useLayoutEffect(() => {
    if (caret.current === undefined || !area.current) return;
    area.current.setSelectionRange(caret.current, caret.current);
    caret.current = undefined;
  });
  useEffect(() => setTop(area.current?.scrollTop ?? 0), [value]);

  // Tab indents; Escape first gives Tab back to the keyboard's way through the page.
  const [tabLeaves, setTabLeaves] = useState(false);
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (event.key === "Escape") setTabLeaves(true);
    else if (event.key === "Tab" && !event.shiftKey && !tabLeaves) {
      event.preventDefault();
      const { selectionStart, selectionEnd } = event.currentTarget;
      caret.current = selectionStart + 2;
      onChange(`${value.slice(0, selectionStart)}  ${value.slice(selectionEnd)}`);
    }
  };
  const goTo = (error: YamlError) => {
    const at = offsetOf(value, error.line, error.column);
    area.current?.focus();
    area.current?.setSelectionRange(at, at);
    if (area.current) area.current.scrollTop = Math.max(0, (error.line - 4) * lineHeight);
  };

  return (
    <div className={cn("col gap-2", fill && "min-h-0 flex-1")}>
      <div
        className={cn(
          "area mono relative flex overflow-hidden !p-0",
          errors.length > 0 && "bad",
          fill && "min-h-[240px] flex-1",
        )}
        style={fill ? undefined : { height: Math.max(minRows, Math.min(lines, 28)) * lineHeight + 20 }}
      >
        <div aria-hidden="true" className="relative w-12 flex-none overflow-hidden border-r border-line bg-sunk text-muted">
          <div className="absolute inset-x-0 top-2.5" style={{ transform: `translateY(${-top}px)` }}>
            {Array.from({ length: lines }, (_, at) => (
              <div key={at} className={cn("pr-2 text-right text-[12px] leading-5", wrong.has(at + 1) && "bg-danger-wash font-semibold text-danger")}>
                {at + 1}
              </div>
            ))}
          </div>
        </div>
        <textarea
          ref={area}
          aria-label={label}
          aria-invalid={errors.length > 0 || undefined}
          className="mono min-w-0 flex-1 resize-none overflow-auto whitespace-pre bg-transparent px-3 py-2.5 outline-none"
          wrap="off"
          spellCheck={false}
          autoCapitalize="off"
          autoComplete="off"
          value={value}
          onChange={(event) => onChange(event.target.value)}
          onBlur={() => setTabLeaves(false)}
          onKeyDown={onKeyDown}
          onScroll={(event) => setTop(event.currentTarget.scrollTop)}
        />
      </div>
      {errors.length > 0 ? (
        <div role="alert" className="max-h-40 flex-none overflow-auto">
          <ul aria-label={t.yamlErrors(errors.length)}>
            {errors.toSorted((one, other) => one.line - other.line).map((error, at) => (
              <li key={at} className="small bad flex items-baseline gap-2 py-0.5">
                <IconClose className="ic-s translate-y-0.5" aria-hidden="true" />
                <button type="button" className="ref text-[12px]" onClick={() => goTo(error)} title={t.yamlGo(error.line)}>
                  {t.yamlAt(error.line, error.column)}
                </button>
                <span>
                  {error.loc ? <span className="mono">{error.loc}: </span> : null}
                  {error.message}
                </span>
              </li>
            ))}
          </ul>
        </div>
      ) : null}
    </div>
  );
}
