"use client";

import { Problem } from "@/api/problem";
import { strings } from "@/lib/strings";
import { Button } from "./ui/button";
import { CopyRef } from "./ui/copy";
import { Empty } from "./ui/empty";

const t = strings.crash;

/** A page that broke says so, names a reference, and can be loaded again. */
export function Crash({ error, reset }: { error: Error & { digest?: string }; reset: () => void }) {
  const reference = error instanceof Problem ? error.requestId : error.digest;
  return (
    <main className="p-6" role="alert">
      <div className="mx-auto max-w-[520px]">
        <Empty
          title={t.title}
          action={
            <Button variant="primary" onClick={reset}>
              {t.again}
            </Button>
          }
        >
          {t.text}{" "}
          <span className="mono-s">
            {error.message} {reference ? <CopyRef text={reference} /> : null}
          </span>
        </Empty>
      </div>
    </main>
  );
}
