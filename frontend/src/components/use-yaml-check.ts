"use client";

import { useEffect, useState } from "react";

import { checkYaml } from "@/api/queries/agents";
import type { YamlCheck } from "@/api/types";

export type CheckState = { state: "checking" } | { state: "known"; check: YamlCheck } | { state: "failed"; error: unknown };

/** What the server says of a YAML, asked when typing rests. Answers that were overtaken are dropped. */
export function useYamlCheck(yaml: string | undefined, rest = 300): CheckState | undefined {
  const [known, setKnown] = useState<{ yaml: string; result: CheckState }>();
  useEffect(() => {
    if (yaml === undefined) return;
    const stop = new AbortController();
    const timer = setTimeout(() => {
      checkYaml(yaml, stop.signal).then(
        (check) => setKnown({ yaml, result: { state: "known", check } }),
        (error: unknown) => {
          if (!stop.signal.aborted) setKnown({ yaml, result: { state: "failed", error } });
        },
      );
    }, rest);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [yaml, rest]);
  if (yaml === undefined) return undefined;
  return known?.yaml === yaml ? known.result : { state: "checking" };
}
