"use client";

import { useEffect, useState } from "react";

import type { Approval } from "@/api/types";
import { StateMark } from "@/components/ui/badge";
import { Button } from "@/components/ui/button";
import { IconApprovals } from "@/components/ui/icon";
import { strings } from "@/lib/strings";
import { headline } from "./entries";

const t = strings.chat.approval;

function inSight(id: string): boolean {
  const element = document.getElementById(`approval-${id}`);
  const scroller = element?.closest(".scroll");
  if (!element || !scroller) return false;
  const [own, view] = [element.getBoundingClientRect(), scroller.getBoundingClientRect()];
  return own.bottom > view.top + 40 && own.top < view.bottom - 40;
}

/** Whether a voucher can be seen where it stands. */
function useInSight(id: string): boolean {
  const [seen, setSeen] = useState(true);
  useEffect(() => {
    let frame = 0;
    const look = () => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => setSeen(inSight(id)));
    };
    look();
    document.addEventListener("scroll", look, true);
    window.addEventListener("resize", look);
    const timer = setInterval(look, 1000);
    return () => {
      cancelAnimationFrame(frame);
      clearInterval(timer);
      document.removeEventListener("scroll", look, true);
      window.removeEventListener("resize", look);
    };
  }, [id]);
  return seen;
}

/** An act that waits while its voucher is scrolled away: it docks above the composer. */
export function ApprovalDock({ approval, onReview }: { approval: Approval; onReview: () => void }) {
  const seen = useInSight(approval.approval_id);
  if (seen) return null;
  return (
    <div className="dock-wait">
      <StateMark tone="warn" icon={<IconApprovals className="ic-s" aria-hidden="true" />}>
        {t.docked}
      </StateMark>
      <span className="mono-s trunc grow">
        {approval.action} {headline(JSON.stringify(approval.arguments))}
      </span>
      <Button size="s" onClick={onReview}>
        {t.review}
      </Button>
    </div>
  );
}
