"use client";

import Link from "next/link";
import { useId, useMemo, useRef, useState, type KeyboardEvent } from "react";

import { useInferenceSettings, useModels } from "@/api/queries/inference";
import type { ModelView } from "@/api/types";
import { cn } from "@/lib/cn";
import { price, tokens } from "@/lib/format";
import { strings } from "@/lib/strings";
import { IconChoose, IconSearch } from "./ui/icon";
import { Kind, KindMark } from "./ui/kind";
import { Popover } from "./ui/popover";

const t = strings.model;

/** What a model costs, or plainly that nobody knows. */
export function priceText(model: Pick<ModelView, "input_price" | "output_price" | "price_source">): string {
  if (model.price_source === "free") return strings.kind.free;
  if (model.input_price == null || model.output_price == null) return strings.kind.unknownPrice;
  return strings.kind.perMtok(price(model.input_price), price(model.output_price));
}

const shortName = (model: ModelView): string => model.name.slice(model.provider.length + 1);

const mostShown = 100;

function matching(models: readonly ModelView[], query: string): ModelView[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return models.filter((model) => {
    const text = `${model.name} ${model.title} ${model.kind}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

interface Choice {
  value: string;
  model?: ModelView;
}

export interface ModelPickerProps {
  /** `provider/name`; empty is the account's default. */
  value: string;
  onChange: (value: string) => void;
  /** Offer the account's default as the first choice. */
  allowDefault?: boolean;
  /** What choosing none is called where it means something else than the account's default. */
  defaultLabel?: string;
  /** Offer the models of one provider only. */
  provider?: string;
  size?: "m" | "quiet";
  id?: string;
  label?: string;
  disabled?: boolean;
  "aria-describedby"?: string;
}

/** One model of all that are connected: searched by typing, each with where it runs and what it costs. */
export function ModelPicker({ value, onChange, allowDefault, defaultLabel, provider, size = "m", id, label = t.label, disabled, ...wiring }: ModelPickerProps) {
  const models = useModels();
  const settings = useInferenceSettings();
  const known = useMemo(
    () => (models.data ?? []).filter((model) => provider === undefined || model.provider === provider),
    [models.data, provider],
  );
  const chosen = known.find((model) => model.name === value);
  const fallback = settings.data?.default_model;
  return (
    <Popover
      className="flex max-h-[min(420px,var(--radix-popover-content-available-height))] w-[max(var(--radix-popover-trigger-width),340px)] flex-col !p-0"
      trigger={
        <button
          type="button"
          id={id}
          disabled={disabled}
          className={cn(size === "quiet" ? "btn ghost" : "input")}
          aria-label={id ? undefined : label}
          {...wiring}
        >
          {chosen ? <KindMark kind={chosen.kind} /> : null}
          <span className={cn("trunc", size === "m" && "grow")}>
            {value ? (
              <span className="med">{chosen?.title || value}</span>
            ) : allowDefault ? (
              <>
                <span className="med">{defaultLabel ?? t.default}</span>
                {fallback && !defaultLabel ? <span className="muted"> {fallback}</span> : null}
              </>
            ) : (
              <span className="muted">{known.length > 0 || models.isPending ? t.pick : t.none}</span>
            )}
          </span>
          {chosen && size === "m" ? <span className="mono-s muted max-sm:hidden">{priceText(chosen)}</span> : null}
          <IconChoose className="ic-s" aria-hidden="true" />
        </button>
      }
    >
      {(close) => (
        <ModelList
          known={known}
          value={value}
          allowDefault={allowDefault ?? false}
          defaultLabel={defaultLabel}
          fallback={defaultLabel ? undefined : (fallback ?? undefined)}
          pick={(next) => {
            onChange(next);
            close();
          }}
        />
      )}
    </Popover>
  );
}

function ModelList({
  known,
  value,
  allowDefault,
  defaultLabel,
  fallback,
  pick,
}: {
  known: readonly ModelView[];
  value: string;
  allowDefault: boolean;
  defaultLabel: string | undefined;
  fallback: string | undefined;
  pick: (value: string) => void;
}) {
  const [query, setQuery] = useState("");
  const [at, setAt] = useState(0);
  const listId = useId();
  const list = useRef<HTMLDivElement>(null);
  const found = useMemo(() => matching(known, query), [known, query]);
  const choices: Choice[] = [
    ...(allowDefault && !query ? [{ value: "" }] : []),
    ...found.slice(0, mostShown).map((model) => ({ value: model.name, model })),
  ];
  const move = (to: number) => {
    const next = Math.max(0, Math.min(choices.length - 1, to));
    setAt(next);
    list.current?.querySelector(`[data-at="${next}"]`)?.scrollIntoView({ block: "nearest" });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const chosen = choices[at];
    if (event.key === "ArrowDown") move(at + 1);
    else if (event.key === "ArrowUp") move(at - 1);
    else if (event.key === "Enter" && chosen) pick(chosen.value);
    else return;
    event.preventDefault();
  };
  return (
    <>
      <div className="row border-b border-line px-3">
        <IconSearch className="ic-s muted" aria-hidden="true" />
        <input
          autoFocus
          role="combobox"
          aria-expanded="true"
          aria-controls={listId}
          aria-activedescendant={choices[at] ? `${listId}-${at}` : undefined}
          aria-label={t.search}
          placeholder={t.search}
          className="ui h-10 grow bg-transparent outline-none"
          value={query}
          onChange={(event) => {
            setQuery(event.target.value);
            setAt(0);
          }}
          onKeyDown={onKeyDown}
        />
      </div>
      <div ref={list} id={listId} role="listbox" aria-label={t.label} className="min-h-0 overflow-auto p-1">
        {choices.map((choice, index) => (
          <div
            key={choice.value}
            id={`${listId}-${index}`}
            data-at={index}
            role="option"
            aria-selected={choice.value === value}
            data-highlighted={index === at || undefined}
            className="pop-item"
            onMouseMove={() => setAt(index)}
            onClick={() => pick(choice.value)}
          >
            {choice.model ? <ModelRow model={choice.model} /> : <DefaultRow label={defaultLabel} fallback={fallback} />}
          </div>
        ))}
        {known.length === 0 && !allowDefault ? (
          <p className="small muted p-3">
            {t.none}.{" "}
            <Link className="link" href="/settings">
              {t.connect}
            </Link>
          </p>
        ) : found.length === 0 && query ? (
          <p className="small muted p-3">{t.noMatch}</p>
        ) : null}
        {found.length > mostShown ? <p className="small muted px-3 py-2">{t.shown(mostShown, found.length)}</p> : null}
      </div>
    </>
  );
}

function DefaultRow({ label, fallback }: { label: string | undefined; fallback: string | undefined }) {
  return (
    <>
      <span className="grow">{label ?? t.default}</span>
      {label ? null : <span className="mono-s muted trunc">{fallback ?? t.none}</span>}
    </>
  );
}

function ModelRow({ model }: { model: ModelView }) {
  const facts = [
    model.context_tokens ? t.context(tokens(model.context_tokens)) : undefined,
    model.supports_tools === false ? t.noTools : undefined,
  ].filter((fact) => fact !== undefined);
  return (
    <span className="grow">
      <span className="row">
        <span className="med trunc grow">{model.title || shortName(model)}</span>
        <span className={cn("mono-s whitespace-nowrap", model.price_source === "unknown" ? "muted" : "ink2")}>{priceText(model)}</span>
      </span>
      <span className="row mono-s muted">
        <Kind kind={model.kind} />
        <span className="trunc">
          {[model.provider, ...facts].join(" · ")}
        </span>
      </span>
    </span>
  );
}
