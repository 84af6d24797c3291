"use client";

import { Popover } from "@/components/ui/popover";
import { Term, Terms } from "@/components/ui/terms";
import { count, tokens } from "@/lib/format";
import { strings } from "@/lib/strings";
import type { Context } from "./journal";

const t = strings.chat.context;

/** What fills the model's context, as a bar of parts. It opens to the parts. */
export function ContextMeter({ context }: { context: Context }) {
  const { total, limit, parts } = context;
  const share = (part: number) => `${Math.min(100, (part * 100) / Math.max(1, limit))}%`;
  const percent = Math.round((total * 100) / Math.max(1, limit));
  const shown = parts.filter((part) => part.tokens > 0);
  return (
    <Popover
      side="top"
      className="w-[320px] !p-4"
      trigger={
        <button type="button" className="ctx" aria-label={t.full(percent)}>
          <span className="ctx-bar" aria-hidden="true">
            {shown.map((part) => (
              <i key={part.name} className={`cx-${part.name}`} style={{ width: share(part.tokens) }} />
            ))}
            <i className="cx-free" />
          </span>
          <span className="text-ink">{count(total)}</span>
          <span>{t.of(count(total), count(limit))}</span>
          <span className="push max-sm:hidden">
            {shown.map((part) => `${t.parts[part.name]} ${tokens(part.tokens)}`).join(" · ")}
          </span>
        </button>
      }
    >
      {() => <Parts context={context} />}
    </Popover>
  );
}

function Parts({ context: { total, limit, parts, dropped } }: { context: Context }) {
  return (
    <>
      <h3>{t.title}</h3>
      <p className="small muted mb-2">{t.estimated}</p>
      <Terms>
        {parts.map((part) => (
          <Term
            key={part.name}
            name={
              <span className="row">
                <i className={`ctx-key cx-${part.name}`} aria-hidden="true" />
                {t.parts[part.name]}
              </span>
            }
          >
            {count(part.tokens)}
          </Term>
        ))}
        <Term name={t.free}>{count(Math.max(0, limit - total))}</Term>
        <Term name={t.label} total>
          {count(total)} / {count(limit)}
        </Term>
      </Terms>
      {dropped > 0 ? <p className="small warn mt-2">{t.dropped(dropped)}</p> : null}
    </>
  );
}
