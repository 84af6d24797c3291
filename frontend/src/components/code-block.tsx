"use client";

import { memo, useEffect, useMemo, useState } from "react";

import { strings } from "@/lib/strings";
import { CopyButton } from "./ui/copy";

type Highlight = typeof import("./highlight").highlight;

let loaded: Highlight | undefined;
let loading: Promise<Highlight> | undefined;

/** The highlighter, once it has come. Without it the code is plain, never absent. */
function useHighlighter(wanted: boolean): Highlight | undefined {
  const [found, setFound] = useState<{ highlight: Highlight | undefined }>({ highlight: loaded });
  useEffect(() => {
    if (!wanted || loaded) return;
    let here = true;
    loading ??= import("./highlight").then((module) => (loaded = module.highlight));
    loading.then(
      (highlight) => here && setFound({ highlight }),
      () => (loading = undefined),
    );
    return () => {
      here = false;
    };
  }, [wanted]);
  return found.highlight ?? loaded;
}

/** Colouring starts over with each letter, so long code that is still being written waits for its end. */
const liveLimit = 4_000;
const limit = 60_000;

export const Coloured = memo(function Coloured({ code, lang, live = false }: { code: string; lang: string; live?: boolean }) {
  const worth = lang !== "" && code.length <= (live ? liveLimit : limit);
  const highlight = useHighlighter(worth);
  const pieces = useMemo(() => (worth && highlight ? highlight(code, lang) : undefined), [worth, highlight, code, lang]);
  if (!pieces) return code;
  return pieces.map((piece, at) =>
    piece.className ? (
      <span key={at} className={piece.className}>
        {piece.text}
      </span>
    ) : (
      piece.text
    ),
  );
});

/** Code with its colours and a copy button. Long lines scroll inside. */
export const CodeBlock = memo(function CodeBlock({ code, lang, live = false }: { code: string; lang: string; live?: boolean }) {
  return (
    <div className="code group/code" data-slot="code">
      <div className="cp">
        <CopyButton text={code} />
      </div>
      <pre tabIndex={0} role="region" aria-label={lang || strings.chat.code.plain}>
        <code>
          <Coloured code={code} lang={lang} live={live} />
        </code>
      </pre>
    </div>
  );
});
