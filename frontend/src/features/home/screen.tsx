"use client";

import { useRouter } from "next/navigation";
import { useEffect } from "react";

import { useThreads } from "@/api/queries/threads";

/** The beginning: the threads, or the first run as long as there is none. Who may not ask is sent on by the threads' page. */
export function HomeScreen() {
  const router = useRouter();
  const threads = useThreads();
  const none = threads.data?.pages[0]?.items.length === 0;
  useEffect(() => {
    if (!threads.isPending) router.replace(none ? "/setup" : "/threads");
  }, [threads.isPending, none, router]);
  return null;
}
