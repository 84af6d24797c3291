import type { Metadata } from "next";

import { LoginScreen } from "@/features/login/screen";
import { strings } from "@/lib/strings";

export const metadata: Metadata = { title: strings.login.title };

export default function Page() {
  return <LoginScreen />;
}
