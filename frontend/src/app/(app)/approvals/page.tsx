import type { Metadata } from "next";

import { ApprovalsScreen } from "@/features/approvals/screen";
import { strings } from "@/lib/strings";

export const metadata: Metadata = { title: strings.approvals.title };

export default function Page() {
  return <ApprovalsScreen />;
}
