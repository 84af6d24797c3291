"use client";

import { useTheme } from "next-themes";

import { strings } from "@/lib/strings";
import { useHydrated } from "@/lib/use-route-id";
import { Seg } from "./ui/seg";

const themes = ["light", "dark", "system"] as const;
export type Theme = (typeof themes)[number];

/** Light, dark, or as the system is. */
export function ThemeSeg() {
  const { theme, setTheme } = useTheme();
  const hydrated = useHydrated();
  return (
    <Seg
      label={strings.theme.label}
      value={hydrated ? ((theme ?? "system") as Theme) : undefined}
      onChange={setTheme}
      options={themes.map((value) => ({ value, label: strings.theme[value] }))}
    />
  );
}
