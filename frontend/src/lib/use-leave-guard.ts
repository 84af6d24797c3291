"use client";

import { useEffect, useRef } from "react";

function linkAway(event: MouseEvent): HTMLAnchorElement | undefined {
  const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
  if (!(link instanceof HTMLAnchorElement)) return undefined;
  const opensElsewhere = event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0 || link.target === "_blank";
  const stays = link.origin !== window.location.origin || link.pathname === window.location.pathname;
  return opensElsewhere || stays || link.hasAttribute("download") ? undefined : link;
}

/** While `dirty`, closing the page or following a link inside the product asks first: `ask` gets what to do on yes. */
export function useLeaveGuard(dirty: boolean, ask: (leave: () => void) => void): void {
  const latest = useRef(ask);
  useEffect(() => {
    latest.current = ask;
  });
  useEffect(() => {
    if (!dirty) return;
    let allowed = false;
    const beforeUnload = (event: BeforeUnloadEvent) => event.preventDefault();
    const onClick = (event: MouseEvent) => {
      const link = allowed ? undefined : linkAway(event);
      if (!link) return;
      event.preventDefault();
      event.stopPropagation();
      latest.current(() => {
        allowed = true;
        link.click();
      });
    };
    window.addEventListener("beforeunload", beforeUnload);
    document.addEventListener("click", onClick, true);
    return () => {
      window.removeEventListener("beforeunload", beforeUnload);
      document.removeEventListener("click", onClick, true);
    };
  }, [dirty]);
}
