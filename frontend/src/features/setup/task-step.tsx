"use client";

import Link from "next/link";
import { useRouter } from "next/navigation";
import * as RadioGroup from "radix-ui/radio-group";
import { useState } from "react";

import { useCreateAgent, useTemplates } from "@/api/queries/agents";
import { useInferenceSettings, useModels } from "@/api/queries/inference";
import { ErrorState } from "@/components/error-state";
import type { AgentTemplate } from "@/api/types";
import { Badge } from "@/components/ui/badge";
import { Button } from "@/components/ui/button";
import { Field, Textarea } from "@/components/ui/input";
import { SkeletonRows } from "@/components/ui/skeleton";
import { cn } from "@/lib/cn";
import { newChatUrl } from "@/lib/chat-url";
import { strings } from "@/lib/strings";

const t = strings.setup.task;

/** The first agent comes from a template; its first message waits in the chat. */
export function TaskStep({ onBack }: { onBack: () => void }) {
  const router = useRouter();
  const templates = useTemplates();
  const create = useCreateAgent();
  const [picked, setPicked] = useState<string>();
  const [typed, setTyped] = useState<string>();
  const chosen = useInferenceSettings().data?.default_model;
  const demo = (useModels().data ?? []).filter((model) => model.kind === "demo").map((model) => model.provider);
  const isDemo = (one: AgentTemplate) => demo.includes(one.config.model.provider);
  // Who chose a real model starts with an agent that uses it, who chose the demo with the one that shows it.
  const wantsDemo = !chosen || demo.some((provider) => chosen.startsWith(`${provider}/`));
  const template = templates.data?.find((one) => one.id === picked) ?? templates.data?.find((one) => isDemo(one) === wantsDemo) ?? templates.data?.[0];
  const prompt = typed ?? template?.prompt ?? "";

  const start = () => {
    if (!template || create.isPending) return;
    create.mutate(template.config, { onSuccess: (agent) => router.push(newChatUrl(agent.agent_id, prompt)) });
  };

  return (
    <div className="flex max-w-[640px] flex-col gap-5 p-4 md:p-8 md:pt-[88px]">
      {templates.isPending ? (
        <SkeletonRows rows={3} />
      ) : templates.isError ? (
        <ErrorState error={templates.error} onRetry={() => void templates.refetch()} retrying={templates.isFetching} />
      ) : (
        <>
          <RadioGroup.Root
            aria-label={t.title}
            value={template?.id ?? ""}
            onValueChange={(id) => {
              setPicked(id);
              setTyped(undefined);
            }}
            className="flex flex-col gap-3"
          >
            {templates.data.map((one) => (
              <RadioGroup.Item
                key={one.id}
                value={one.id}
                className={cn("sheet px-4 py-3 text-left hover:border-control", one.id === template?.id && "on")}
              >
                <span className="row text-[14px] font-semibold leading-5">
                  {one.name}
                  {isDemo(one) ? <Badge look="demo">{strings.kind.demoBadge}</Badge> : null}
                </span>
                <span className="small muted block">{one.description}</span>
              </RadioGroup.Item>
            ))}
          </RadioGroup.Root>
          <Field label={t.prompt}>
            {(wiring) => <Textarea {...wiring} rows={3} value={prompt} onChange={(event) => setTyped(event.target.value)} />}
          </Field>
          {create.isError ? <ErrorState error={create.error} /> : null}
        </>
      )}
      <div className="row">
        <Button variant="ghost" onClick={onBack}>
          {strings.common.back}
        </Button>
        <Button variant="ghost" asChild>
          <Link href="/threads">{strings.common.skip}</Link>
        </Button>
        <Button variant="primary" busy={create.isPending} disabled={!template} onClick={start} className="max-md:grow">
          {t.start}
        </Button>
      </div>
    </div>
  );
}
