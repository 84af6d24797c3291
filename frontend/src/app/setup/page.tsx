import type { Metadata } from "next";

import { SetupScreen } from "@/features/setup/screen";
import { strings } from "@/lib/strings";

export const metadata: Metadata = { title: strings.setup.steps.label };

export default function Page() {
  return <SetupScreen />;
}
