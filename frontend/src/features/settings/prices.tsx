"use client";

import { useState, type FormEvent } from "react";

import { useSetPrice } from "@/api/queries/inference";
import type { ModelView } from "@/api/types";
import { errorText } from "@/components/error-state";
import { Button } from "@/components/ui/button";
import { Dialog } from "@/components/ui/dialog";
import { Empty } from "@/components/ui/empty";
import { IconSearch } from "@/components/ui/icon";
import { Field, InputGroup } from "@/components/ui/input";
import { KindMark } from "@/components/ui/kind";
import { toast } from "@/components/ui/toast";
import { dollars, parseDollars, price } from "@/lib/format";
import { strings } from "@/lib/strings";

const t = strings.settings;
const atOnce = 50;
const parts = ["input", "output", "cached"] as const;
type Part = (typeof parts)[number];

const valueOf = (model: ModelView, part: Part): number | null => model[`${part}_price`] ?? null;

function PriceDialog({ model, onClose }: { model: ModelView; onClose: () => void }) {
  const save = useSetPrice();
  const [typed, setTyped] = useState<Record<Part, string>>({
    input: dollars(valueOf(model, "input")),
    output: dollars(valueOf(model, "output")),
    cached: dollars(valueOf(model, "cached")),
  });
  const meant = (part: Part): number | null | undefined => (typed[part].trim() === "" ? null : parseDollars(typed[part]));
  const wrong = parts.some((part) => meant(part) === undefined);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const [input_price, output_price, cached_price] = parts.map(meant);
    if (wrong || save.isPending) return;
    save.mutate(
      { model: model.name, input_price, output_price, cached_price },
      {
        onSuccess: () => {
          toast({ text: t.priceSaved });
          onClose();
        },
      },
    );
  };
  return (
    <Dialog
      open
      onOpenChange={onClose}
      title={t.priceTitle(model.title || model.name)}
      description={t.priceText}
      footer={
        <>
          <Button onClick={onClose}>{strings.common.cancel}</Button>
          <Button variant="primary" type="submit" form="price" busy={save.isPending} disabled={wrong}>
            {strings.common.save}
          </Button>
        </>
      }
    >
      <form id="price" onSubmit={submit} className="grid grid-cols-3 gap-3">
        {parts.map((part) => (
          <Field key={part} label={t.columns[part]} error={meant(part) === undefined ? t.badPrice : undefined}>
            {(wiring) => (
              <InputGroup
                {...wiring}
                mono
                inputMode="decimal"
                before={<span className="muted">$</span>}
                placeholder={t.unknown}
                value={typed[part]}
                onChange={(event) => setTyped({ ...typed, [part]: event.target.value })}
              />
            )}
          </Field>
        ))}
      </form>
      {save.isError ? (
        <p role="alert" className="small bad mt-2">
          {errorText(save.error)}
        </p>
      ) : null}
    </Dialog>
  );
}

function Price({ model, part }: { model: ModelView; part: Part }) {
  const value = valueOf(model, part);
  return <td className="num">{value === null ? <span className="muted">{t.unknown}</span> : price(value)}</td>;
}

/** What each model costs. Unknown stays unknown until somebody says it. */
export function Prices({ models }: { models: ModelView[] }) {
  const [query, setQuery] = useState("");
  const [shown, setShown] = useState(atOnce);
  const [editing, setEditing] = useState<ModelView>();
  const found = models.filter((model) => `${model.name} ${model.title}`.toLowerCase().includes(query.trim().toLowerCase()));
  if (models.length === 0) return <Empty title={t.noModels}>{t.noModelsText}</Empty>;
  return (
    <>
      {models.length > 8 ? (
        <InputGroup
          type="search"
          className="mb-2 max-w-[280px]"
          before={<IconSearch className="ic-s muted" aria-hidden="true" />}
          aria-label={t.searchModels}
          placeholder={t.searchModels}
          value={query}
          onChange={(event) => setQuery(event.target.value)}
        />
      ) : null}
      <div className="overflow-x-auto" tabIndex={0} role="group" aria-label={t.prices}>
        <table className="tbl">
          <thead>
            <tr>
              <th>{t.columns.model}</th>
              {parts.map((part) => (
                <th key={part} className="num">
                  {t.columns[part]}
                </th>
              ))}
              <th>{t.columns.source}</th>
              <th>
                <span className="sr-only">{t.editPrice}</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {found.slice(0, shown).map((model) => (
              <tr key={model.name}>
                <td>
                  <span className="row">
                    <KindMark kind={model.kind} />
                    <span className="mono trunc max-w-[320px]" title={model.name}>
                      {model.name}
                    </span>
                  </span>
                </td>
                {parts.map((part) => (
                  <Price key={part} model={model} part={part} />
                ))}
                <td className="muted">{t.sources[model.price_source]}</td>
                <td className="text-right">
                  {model.price_source === "free" ? null : (
                    <Button size="s" variant="ghost" aria-label={t.priceTitle(model.name)} onClick={() => setEditing(model)}>
                      {t.editPrice}
                    </Button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {found.length > shown ? (
        <Button className="mt-3" onClick={() => setShown(shown + atOnce)}>
          {strings.common.loadMore}
        </Button>
      ) : null}
      {editing ? <PriceDialog model={editing} onClose={() => setEditing(undefined)} /> : null}
    </>
  );
}
