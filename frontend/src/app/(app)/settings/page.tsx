import type { Metadata } from "next";

import { SettingsScreen } from "@/features/settings/screen";
import { strings } from "@/lib/strings";

export const metadata: Metadata = { title: strings.settings.title };

export default function Page() {
  return <SettingsScreen />;
}
