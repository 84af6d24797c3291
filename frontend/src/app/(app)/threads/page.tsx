import type { Metadata } from "next";

import { ThreadsScreen } from "@/features/threads/screen";
import { strings } from "@/lib/strings";

export const metadata: Metadata = { title: strings.threads.title };

export default function Page() {
  return <ThreadsScreen />;
}
