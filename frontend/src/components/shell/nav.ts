import type { ComponentType, SVGProps } from "react";

import { strings } from "@/lib/strings";
import { IconAgents, IconApprovals, IconChat, IconSettings } from "../ui/icon";

export interface NavItem {
  href: string;
  label: string;
  icon: ComponentType<SVGProps<SVGSVGElement>>;
  /** Where the number of waiting approvals stands. */
  counts?: "approvals";
}

export interface NavGroup {
  label: string;
  items: NavItem[];
}

/** The pages that exist. A page joins when it works. */
export const groups: readonly NavGroup[] = [
  {
    label: strings.nav.work,
    items: [
      { href: "/threads", label: strings.nav.chat, icon: IconChat },
      { href: "/approvals", label: strings.nav.approvals, icon: IconApprovals, counts: "approvals" },
    ],
  },
  {
    label: strings.nav.build,
    items: [{ href: "/agents", label: strings.nav.agents, icon: IconAgents }],
  },
  {
    label: strings.nav.system,
    items: [{ href: "/settings", label: strings.nav.settings, icon: IconSettings }],
  },
];

export const isCurrent = (path: string, href: string): boolean => path === href || path.startsWith(`${href}/`);
