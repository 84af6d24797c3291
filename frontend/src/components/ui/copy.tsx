"use client";

import { useEffect, useState } from "react";

import { strings } from "@/lib/strings";
import { Button, IconButton } from "./button";
import { IconCopy, IconDone } from "./icon";
import { toast } from "./toast";

function useCopy(text: string): [boolean, () => void] {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = () => {
    // Absent on plain http from another machine: then say so instead of pretending.
    if (!navigator.clipboard) {
      toast({ text: strings.common.copyBlocked, tone: "bad" });
      return;
    }
    void navigator.clipboard.writeText(text).then(
      () => setCopied(true),
      () => toast({ text: strings.common.copyBlocked, tone: "bad" }),
    );
  };
  return [copied, copy];
}

export function CopyButton({ text, label }: { text: string; label?: string }) {
  const [copied, copy] = useCopy(text);
  const icon = copied ? <IconDone className="ic-s" aria-hidden="true" /> : <IconCopy className="ic-s" aria-hidden="true" />;
  if (!label) {
    return (
      <IconButton variant="ghost" size="s" label={copied ? strings.common.copied : strings.common.copy} onClick={copy}>
        {icon}
      </IconButton>
    );
  }
  return (
    <Button size="s" onClick={copy}>
      {icon}
      {copied ? strings.common.copied : label}
    </Button>
  );
}

/** A short id that copies itself whole. */
export function CopyRef({ text, shown }: { text: string; shown?: string }) {
  const [copied, copy] = useCopy(text);
  return (
    <button type="button" className="ref text-[12px]" onClick={copy} title={strings.common.copyWhole(text)}>
      {copied ? strings.common.copied : (shown ?? text)}
    </button>
  );
}
