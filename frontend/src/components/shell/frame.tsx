"use client";

import Link from "next/link";
import { Fragment, useEffect, useSyncExternalStore, type ReactNode } from "react";

import { connection } from "@/api/client";
import { strings } from "@/lib/strings";
import { IconUnplugged } from "../ui/icon";
import { StateMark } from "../ui/badge";

export interface Crumb {
  href: string;
  label: string;
}

function Connection() {
  const lost = useSyncExternalStore(connection.subscribe, connection.isLost, () => false);
  return (
    <span role="status">
      {lost ? (
        <StateMark tone="bad" icon={<IconUnplugged className="ic-s" aria-hidden="true" />}>
          {strings.shell.connectionLost}
        </StateMark>
      ) : null}
    </span>
  );
}

/** What every page of the product stands in: the strip on top, below it the page. `bare` leaves scrolling and padding to it. */
export function Frame({
  title,
  crumbs = [],
  marks,
  actions,
  bare,
  children,
}: {
  title: string;
  crumbs?: Crumb[];
  /** Stand right of the title: a state, a badge. */
  marks?: ReactNode;
  actions?: ReactNode;
  bare?: boolean;
  children: ReactNode;
}) {
  useEffect(() => {
    document.title = `${title} · ${strings.product}`;
  }, [title]);
  return (
    <div className="main">
      <header className="strip">
        {crumbs.map((crumb) => (
          <Fragment key={crumb.href}>
            <Link href={crumb.href} className="crumb hover:text-ink max-sm:hidden">
              {crumb.label}
            </Link>
            <span className="muted max-sm:hidden" aria-hidden="true">
              /
            </span>
          </Fragment>
        ))}
        <h1 className="ttl trunc">{title}</h1>
        {marks}
        <span className="grow" />
        <Connection />
        {actions}
      </header>
      {bare ? (
        children
      ) : (
        // The page itself scrolls, so the keyboard has to be able to reach it.
        <main id="page" className="page" tabIndex={0}>
          {children}
        </main>
      )}
    </div>
  );
}
