"use client";

import { memo, useEffect, useState } from "react";

type Reader = typeof import("./markdown-body").Markdown;

let arrived: Reader | undefined;
let loading: Promise<Reader> | undefined;

function load(): Promise<Reader> {
  loading ??= import("./markdown-body").then(
    (module) => (arrived = module.Markdown),
    (error: unknown) => {
      loading = undefined;
      throw error;
    },
  );
  return loading;
}

// On its way as soon as a page that shows Markdown is: it is mostly there before the first message.
if (typeof window !== "undefined") void load().catch(() => undefined);

/** Markdown from a model. What reads it weighs as much as the rest of the page, so it comes by itself; until then the text stands as it is. */
export const Markdown = memo(function Markdown({ text, live = false }: { text: string; live?: boolean }) {
  const [reader, setReader] = useState({ Reader: arrived });
  useEffect(() => {
    if (reader.Reader) return;
    let here = true;
    load().then(
      (Reader) => here && setReader({ Reader }),
      () => undefined,
    );
    return () => {
      here = false;
    };
  }, [reader]);
  const { Reader } = reader;
  if (Reader) return <Reader text={text} live={live} />;
  return (
    <div className="prose" data-slot="markdown">
      <p className="whitespace-pre-wrap">{text}</p>
    </div>
  );
});
