import { ChatScreen } from "@/features/chat/screen";

// The id is in the address: `useRouteId()`. `new` opens an empty thread, with `?agent=` and `?prompt=`.
export const generateStaticParams = () => [{ id: "_" }];

export default function Page() {
  return <ChatScreen />;
}
