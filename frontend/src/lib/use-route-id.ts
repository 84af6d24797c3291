"use client";

import { usePathname } from "next/navigation";
import { useSyncExternalStore } from "react";

const never = () => () => {};

/** False while the page hydrates, so that what only the browser knows never differs from the exported HTML. */
export function useHydrated(): boolean {
  return useSyncExternalStore(
    never,
    () => true,
    () => false,
  );
}

/** The last path segment. A dynamic page is exported once with the placeholder `_`, so the router's own params would
 * answer `_`; the address bar knows better. Undefined until hydrated. */
export function useRouteId(): string | undefined {
  const path = usePathname();
  const hydrated = useHydrated();
  if (!hydrated) return undefined;
  const last = path.split("/").filter(Boolean).at(-1);
  return last === undefined ? undefined : decodeURIComponent(last);
}
