import type { ReactNode } from "react";

import { strings } from "@/lib/strings";
import { Mark } from "./brand";

/** The pages before the product: what this is at the left, the work at the right. */
export function Welcome({ title, text, below, foot, children }: { title: string; text: string; below?: ReactNode; foot?: ReactNode; children: ReactNode }) {
  return (
    <div className="grid min-h-dvh content-start md:h-dvh md:content-stretch md:grid-cols-[336px_minmax(0,1fr)]">
      <section className="flex flex-col px-4 pt-4 md:border-r md:border-line md:px-7 md:pb-6 md:pt-8">
        <div className="row gap-[9px] text-[15px] font-semibold leading-5">
          <span className="live">
            <Mark />
          </span>
          {strings.product}
        </div>
        <h1 className="mt-5 md:mt-10">{title}</h1>
        <p className="ink2 mt-2 md:mt-3">{text}</p>
        {below}
        {foot ? <div className="mt-auto hidden gap-3 pt-6 md:grid">{foot}</div> : null}
      </section>
      <main className="min-h-0 min-w-0">{children}</main>
    </div>
  );
}
