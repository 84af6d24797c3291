import { HomeScreen } from "@/features/home/screen";

export default function Page() {
  return <HomeScreen />;
}
