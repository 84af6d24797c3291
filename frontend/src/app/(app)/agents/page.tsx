import type { Metadata } from "next";

import { AgentsScreen } from "@/features/agents/screen";
import { strings } from "@/lib/strings";

export const metadata: Metadata = { title: strings.agents.title };

export default function Page() {
  return <AgentsScreen />;
}
