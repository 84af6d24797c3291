"use client";

import Link from "next/link";
import { usePathname, useRouter } from "next/navigation";
import { useEffect, useSyncExternalStore, type ReactNode } from "react";

import { isProblem } from "@/api/problem";
import { usePendingApprovals } from "@/api/queries/approvals";
import { useHealth } from "@/api/queries/health";
import { useConfig, useLogout, useMe } from "@/api/queries/session";
import { strings } from "@/lib/strings";
import { Mark } from "../brand";
import { ErrorState } from "../error-state";
import { ThemeSeg } from "../theme-menu";
import { Avatar } from "../ui/avatar";
import { IconLeave, IconMore, IconRail, IconSettings } from "../ui/icon";
import { Menu, MenuItem, MenuLabel, MenuSeparator } from "../ui/menu";
import { Loading } from "../ui/skeleton";
import { Dots } from "../ui/terms";
import { groups, isCurrent, type NavItem } from "./nav";

const railKey = "vibe.rail";
const railChanged = "vibe:rail";

function useRail(): ["full" | "mini", () => void] {
  const rail = useSyncExternalStore(
    (listener) => {
      window.addEventListener(railChanged, listener);
      return () => window.removeEventListener(railChanged, listener);
    },
    () => (localStorage.getItem(railKey) === "mini" ? "mini" : "full"),
    () => "full" as const,
  );
  const flip = () => {
    localStorage.setItem(railKey, rail === "mini" ? "full" : "mini");
    window.dispatchEvent(new Event(railChanged));
  };
  return [rail, flip];
}

function RailLink({ item, current, waiting }: { item: NavItem; current: boolean; waiting: number }) {
  const Icon = item.icon;
  const shown = item.counts === "approvals" && waiting > 0;
  return (
    <Link href={item.href} className="it" aria-current={current ? "page" : undefined} title={item.label}>
      <Icon className="ic" aria-hidden="true" />
      <span>{item.label}</span>
      {shown ? (
        <>
          <span className="cnt warn" aria-label={strings.nav.waiting(waiting)}>
            {waiting}
          </span>
          <i className="dot" aria-hidden="true" />
        </>
      ) : null}
    </Link>
  );
}

function RailHealth() {
  const health = useHealth(30_000);
  const failing = health.data?.parts.filter((part) => !part.ok) ?? [];
  return (
    <Link href="/settings?tab=health" className="hide mono-s muted grid gap-1.5 hover:text-ink">
      <span className="row">
        <span>{strings.shell.api}</span>
        <Dots />
        <span>{health.data ? strings.shell.ms(health.data.tookMs) : health.isError ? strings.shell.noAnswer : "…"}</span>
      </span>
      {failing.map((part) => (
        <span key={part.name} className="row bad">
          <span>{part.name}</span>
          <Dots />
          <span>{strings.shell.off}</span>
        </span>
      ))}
    </Link>
  );
}

function AccountMenu({ name, email }: { name: string; email: string }) {
  const router = useRouter();
  const logout = useLogout();
  return (
    <Menu
      align="start"
      trigger={
        <button type="button" className="row w-full rounded-control text-left" aria-label={strings.shell.account}>
          <Avatar name={name} />
          <span className="small trunc hide">{name}</span>
          <IconMore className="ic push muted hide" aria-hidden="true" />
        </button>
      }
    >
      <MenuLabel>{email}</MenuLabel>
      <div className="px-2 py-1">
        <ThemeSeg />
      </div>
      <MenuSeparator />
      <MenuItem icon={<IconSettings className="ic-s" aria-hidden="true" />} onSelect={() => router.push("/settings")}>
        {strings.nav.settings}
      </MenuItem>
      <MenuItem
        icon={<IconLeave className="ic-s" aria-hidden="true" />}
        onSelect={() => logout.mutate(undefined, { onSuccess: () => router.replace("/login") })}
      >
        {strings.shell.signOut}
      </MenuItem>
    </Menu>
  );
}

/** Who may see the product: a new installation goes to setup, a stranger to sign-in and back to where he wanted. */
function useGate(): { open: boolean; error: unknown; retry: () => void } {
  const router = useRouter();
  const config = useConfig();
  const settingUp = config.data?.setup_required === true;
  const me = useMe(config.isSuccess && !settingUp);
  const stranger = isProblem(me.error, 401);
  useEffect(() => {
    if (settingUp) router.replace("/setup");
    else if (stranger) {
      const here = window.location.pathname + window.location.search;
      router.replace(`/login?next=${encodeURIComponent(here)}`);
    }
  }, [settingUp, stranger, router]);
  return {
    open: me.data !== undefined && !stranger,
    error: config.error ?? (stranger ? null : me.error),
    retry: () => void (config.isError ? config.refetch() : me.refetch()),
  };
}

export function Shell({ children }: { children: ReactNode }) {
  const gate = useGate();
  if (gate.error) {
    return (
      <main className="mx-auto max-w-[520px] p-6">
        <ErrorState error={gate.error} onRetry={gate.retry} />
      </main>
    );
  }
  if (!gate.open) return <Loading>{null}</Loading>;
  return <OpenShell>{children}</OpenShell>;
}

function OpenShell({ children }: { children: ReactNode }) {
  const path = usePathname();
  const [rail, flipRail] = useRail();
  const me = useMe();
  const waiting = usePendingApprovals().data?.items.length ?? 0;
  const items = groups.flatMap((group) => group.items);
  return (
    <div className="app" data-rail={rail}>
      <aside className="rail">
        <Link className="brand" href="/threads" aria-label={strings.shell.home}>
          <Mark />
          <span>{strings.product}</span>
        </Link>
        <nav aria-label={strings.nav.main}>
          {groups.map((group) => (
            <div key={group.label} className="contents">
              <div className="grp">{group.label}</div>
              {group.items.map((item) => (
                <RailLink key={item.href} item={item} current={isCurrent(path, item.href)} waiting={waiting} />
              ))}
            </div>
          ))}
        </nav>
        <button type="button" className="it" onClick={flipRail} aria-pressed={rail === "mini"} title={strings.shell.rail}>
          <IconRail className="ic" aria-hidden="true" />
          <span>{strings.shell.rail}</span>
        </button>
        <div className="foot">
          <RailHealth />
          {me.data ? <AccountMenu name={me.data.user.name} email={me.data.user.email} /> : null}
        </div>
      </aside>
      {children}
      <nav className="bottom" aria-label={strings.nav.main}>
        {items.map((item) => (
          <Link key={item.href} href={item.href} aria-current={isCurrent(path, item.href) ? "page" : undefined}>
            <item.icon className="ic" aria-hidden="true" />
            {item.label}
            {item.counts === "approvals" && waiting > 0 ? (
              <>
                <i className="dot" aria-hidden="true" />
                <span className="sr-only">{strings.nav.waiting(waiting)}</span>
              </>
            ) : null}
          </Link>
        ))}
      </nav>
    </div>
  );
}
