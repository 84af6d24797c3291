import Link from "next/link";

import { strings } from "@/lib/strings";
import { Button } from "./ui/button";
import { Empty } from "./ui/empty";

const t = strings.notFound;

/** Nothing is at this address. */
export function NotFound() {
  return (
    <div className="mx-auto max-w-[520px]">
      <Empty
        title={t.title}
        action={
          <Button asChild>
            <Link href="/threads">{t.home}</Link>
          </Button>
        }
      >
        {t.text}
      </Empty>
    </div>
  );
}
