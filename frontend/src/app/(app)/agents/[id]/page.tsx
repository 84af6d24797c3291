import { AgentScreen } from "@/features/agent/screen";

export const generateStaticParams = () => [{ id: "_" }];

export default function Page() {
  return <AgentScreen />;
}
