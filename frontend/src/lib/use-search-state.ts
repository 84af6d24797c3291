"use client";

import { useCallback, useSyncExternalStore } from "react";

const changed = "vibe:search";

function subscribe(listener: () => void): () => void {
  window.addEventListener("popstate", listener);
  window.addEventListener(changed, listener);
  return () => {
    window.removeEventListener("popstate", listener);
    window.removeEventListener(changed, listener);
  };
}

/** One parameter of the address, such as a filter: survives reload and can be sent to somebody. Empty when absent. */
export function useSearchState(name: string): [string, (value: string) => void] {
  const value = useSyncExternalStore(
    subscribe,
    () => new URLSearchParams(window.location.search).get(name) ?? "",
    () => "",
  );
  const set = useCallback(
    (next: string) => {
      const url = new URL(window.location.href);
      if (next) url.searchParams.set(name, next);
      else url.searchParams.delete(name);
      window.history.replaceState(window.history.state, "", url);
      window.dispatchEvent(new Event(changed));
    },
    [name],
  );
  return [value, set];
}
