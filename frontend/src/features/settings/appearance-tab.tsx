"use client";

import { ThemeSeg } from "@/components/theme-menu";
import { SectionHead } from "@/components/ui/terms";
import { strings } from "@/lib/strings";

const t = strings.settings;

export function AppearanceTab() {
  return (
    <section aria-labelledby="theme">
      <SectionHead id="theme" title={t.theme} aside={t.themeText} />
      <div className="pt-4">
        <ThemeSeg />
      </div>
    </section>
  );
}
