"use client";

import type { ReactNode } from "react";

import { Problem } from "@/api/problem";
import { strings } from "@/lib/strings";
import { Button } from "./ui/button";
import { CopyRef } from "./ui/copy";
import { IconError } from "./ui/icon";

export const errorText = (error: unknown): string =>
  error instanceof Error && error.message ? error.message : strings.common.unknownError;

/** What failed, in words, its request id to copy, and a way out. */
export function ErrorState({ error, onRetry, retrying, children }: { error: unknown; onRetry?: () => void; retrying?: boolean; children?: ReactNode }) {
  const problem = error instanceof Problem ? error : undefined;
  const detail = problem?.detail && problem.detail !== problem.title ? problem.detail : undefined;
  return (
    <div role="alert" data-slot="error" className="sheet bad">
      <div className="bd flex items-start gap-3">
        <span className="bad pt-0.5">
          <IconError className="ic" aria-hidden="true" />
        </span>
        <div className="grow">
          <div className="small med">{problem?.title ?? errorText(error)}</div>
          {detail || problem?.requestId ? (
            <p className="small muted">
              {detail ? <>{detail} </> : null}
              {problem?.requestId ? <CopyRef text={problem.requestId} /> : null}
            </p>
          ) : null}
          {onRetry || children ? (
            <div className="row mt-2 flex-wrap">
              {onRetry ? (
                <Button size="s" onClick={onRetry} busy={retrying}>
                  {strings.common.retry}
                </Button>
              ) : null}
              {children}
            </div>
          ) : null}
        </div>
      </div>
    </div>
  );
}
