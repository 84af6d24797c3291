"use client";

import { useEffect, useState, type CSSProperties, type ReactNode } from "react";

import { strings } from "@/lib/strings";

/** True once `ms` have passed: what arrives sooner never flashes a skeleton. */
export function useDelayed(ms: number): boolean {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), ms);
    return () => clearTimeout(timer);
  }, [ms]);
  return late;
}

export function Skeleton({ className, style }: { className?: string; style?: CSSProperties }) {
  return <span data-slot="skeleton" className={`skel ${className ?? ""}`} style={style} aria-hidden="true" />;
}

/** Shows its shape after 150 ms; a screen reader hears one word. */
export function Loading({ children }: { children: ReactNode }) {
  const late = useDelayed(150);
  return (
    <div data-slot="loading" aria-busy="true">
      <span className="sr-only">{strings.common.loading}</span>
      {late ? children : null}
    </div>
  );
}

export function SkeletonRows({ rows = 4 }: { rows?: number }) {
  return (
    <Loading>
      {Array.from({ length: rows }, (_, at) => (
        <div key={at} className="row border-b border-line py-3.5">
          <Skeleton className="w-[46px]" />
          <Skeleton className="grow" style={{ marginRight: `${(at * 13) % 34}%` }} />
          <Skeleton className="w-16" />
        </div>
      ))}
    </Loading>
  );
}
