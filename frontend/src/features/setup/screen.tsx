"use client";

import { useRouter } from "next/navigation";
import { useEffect } from "react";

import { isProblem } from "@/api/problem";
import { useInferenceSettings } from "@/api/queries/inference";
import { useConfig, useMe } from "@/api/queries/session";
import { useThreads } from "@/api/queries/threads";
import { ErrorState } from "@/components/error-state";
import { Welcome } from "@/components/welcome";
import { IconDone } from "@/components/ui/icon";
import { Kind } from "@/components/ui/kind";
import { Loading } from "@/components/ui/skeleton";
import { cn } from "@/lib/cn";
import { strings } from "@/lib/strings";
import { useHydrated } from "@/lib/use-route-id";
import { useSearchState } from "@/lib/use-search-state";
import { BrainStep } from "./brain-step";
import { OwnerStep } from "./owner-step";
import { TaskStep } from "./task-step";

const t = strings.setup;
const steps = ["owner", "brain", "task"] as const;
type Step = (typeof steps)[number];

function Steps({ now }: { now: Step }) {
  const at = steps.indexOf(now);
  return (
    <ol aria-label={t.steps.label} className="mt-3 flex gap-4 md:mt-8 md:flex-col md:gap-0">
      {steps.map((step, index) => (
        <li
          key={step}
          aria-current={index === at ? "step" : undefined}
          className={cn("ui flex items-center gap-1.5 py-1.5 md:grid md:grid-cols-[24px_1fr] md:gap-3", index === at ? "font-semibold" : "muted")}
        >
          <span className={cn("mono-s justify-self-end", index === at && "live")}>
            {index < at ? <IconDone className="ic-s" aria-hidden="true" /> : index + 1}
          </span>
          {t.steps[step]}
        </li>
      ))}
    </ol>
  );
}

/**
 * The step that somebody is at: the one in the address, else the first that is not done. Undefined while nobody knows, and for who has a thread
 * already: he is led to it.
 */
function useStep(ownerless: boolean, signedIn: boolean): [Step | undefined, (step: Step) => void] {
  const router = useRouter();
  const [wanted, setStep] = useSearchState("step");
  const named = steps.find((step) => step === wanted && step !== "owner");
  const ask = signedIn && !ownerless && !named;
  const settings = useInferenceSettings(ask);
  const threads = useThreads(undefined, ask);
  const begun = ask && (threads.data?.pages[0]?.items.length ?? 0) > 0;
  useEffect(() => {
    if (begun) router.replace("/threads");
  }, [begun, router]);
  if (ownerless) return ["owner", setStep];
  if (named || begun) return [begun ? undefined : named, setStep];
  const known = !settings.isPending && !threads.isPending;
  return [known ? (settings.data?.default_model ? "task" : "brain") : undefined, setStep];
}

/** First run: the owner, then a model, then a first task that opens the chat. */
export function SetupScreen() {
  const router = useRouter();
  const hydrated = useHydrated();
  const config = useConfig();
  const ownerless = config.data?.setup_required === true;
  const me = useMe(config.isSuccess && !ownerless);
  const [at, setStep] = useStep(ownerless, me.data !== undefined);
  const step = at ?? "brain";
  const stranger = isProblem(me.error, 401);
  useEffect(() => {
    if (stranger) router.replace(`/login?next=${encodeURIComponent(window.location.pathname + window.location.search)}`);
  }, [stranger, router]);

  const failed = config.error ?? (stranger ? null : me.error);
  const ready = hydrated && at !== undefined && (ownerless || me.data !== undefined);
  const foot = (
    <>
      <div className="row flex-wrap gap-3">
        <Kind kind="centralized" />
        <Kind kind="decentralized" />
        <Kind kind="local" />
        <Kind kind="demo" />
      </div>
      <p className="small muted">{t.brain.foot}</p>
    </>
  );
  return (
    <Welcome title={t[step].title} text={t[step].text} below={<Steps now={step} />} foot={step === "brain" ? foot : null}>
      {failed ? (
        <div className="max-w-[520px] p-4 md:p-8">
          <ErrorState error={failed} onRetry={() => void (config.isError ? config.refetch() : me.refetch())} />
        </div>
      ) : !ready ? (
        <Loading>{null}</Loading>
      ) : step === "owner" ? (
        <OwnerStep onDone={() => setStep("brain")} />
      ) : step === "brain" ? (
        <BrainStep onDone={() => setStep("task")} />
      ) : (
        <TaskStep onBack={() => setStep("brain")} />
      )}
    </Welcome>
  );
}
