"use client";

import { useEffect } from "react";

import { useInferenceSettings, useModels, useProviders, useSetDefaultModel } from "@/api/queries/inference";
import type { ModelView, ProviderStatus } from "@/api/types";
import { ErrorState, errorText } from "@/components/error-state";
import { ModelPicker, priceText } from "@/components/model-picker";
import { ProviderCard } from "@/components/provider-card";
import { Stamp } from "@/components/ui/badge";
import { Button } from "@/components/ui/button";
import { IconDone } from "@/components/ui/icon";
import { KindMark } from "@/components/ui/kind";
import { Loading, Skeleton } from "@/components/ui/skeleton";
import { Dots } from "@/components/ui/terms";
import { toast } from "@/components/ui/toast";
import { strings } from "@/lib/strings";

const t = strings.setup.brain;

function Footer({
  provider,
  models,
  chosen,
  use,
}: {
  provider: ProviderStatus;
  models: ModelView[];
  chosen: string | undefined;
  use: (model: string) => void;
}) {
  const mine = models.filter((model) => model.provider === provider.name);
  const inUse = mine.find((model) => model.name === chosen);
  const first = mine[0];
  if (!provider.configured || provider.test_ok === false || !first) return null;
  if (provider.kind === "demo") {
    return (
      <div className="row">
        {inUse ? <InUse /> : <Button onClick={() => use(first.name)}>{t.tryDemo}</Button>}
        <Dots centre />
        <span className="mono-s muted max-sm:hidden">{t.demoTerms}</span>
      </div>
    );
  }
  return (
    <div className="row">
      <ModelPicker
        value={inUse?.name ?? ""}
        onChange={use}
        provider={provider.name}
        label={`${strings.model.label}: ${provider.title}`}
      />
      {inUse ? <InUse /> : mine.length === 1 ? <Button onClick={() => use(first.name)}>{t.use}</Button> : null}
    </div>
  );
}

const InUse = () => (
  <Stamp icon={<IconDone className="ic-s" aria-hidden="true" />}>
    <span className="whitespace-nowrap">{t.inUse}</span>
  </Stamp>
);

/** Every place a model can come from, as it stands now; one model becomes the account's default. */
export function BrainStep({ onDone }: { onDone: () => void }) {
  const providers = useProviders(true);
  const models = useModels();
  const { refetch: readModels } = models;
  // A local server that comes up brings its models with it.
  const running = providers.data?.filter((one) => one.test_ok).map((one) => one.name).join(" ");
  useEffect(() => {
    if (running !== undefined) void readModels();
  }, [running, readModels]);
  const settings = useInferenceSettings();
  const setDefault = useSetDefaultModel();
  const all = models.data ?? [];
  const chosen = settings.data?.default_model ?? undefined;
  const model = all.find((one) => one.name === chosen);
  const use = (name: string) =>
    setDefault.mutate(name, { onError: (error) => toast({ text: errorText(error), tone: "bad" }) });

  return (
    <div className="grid h-full grid-rows-[minmax(0,1fr)_auto]">
      <div className="min-h-0 overflow-auto px-4 pb-24 pt-4 md:p-8" tabIndex={0} role="group" aria-label={t.title}>
        {providers.isError ? (
          <ErrorState error={providers.error} onRetry={() => void providers.refetch()} retrying={providers.isFetching} />
        ) : (
          <div className="grid content-start gap-4 lg:grid-cols-2">
            {providers.isPending ? (
              <Loading>
                <div className="sheet flex min-h-[150px] flex-col gap-4 p-4">
                  <Skeleton className="w-1/3" />
                  <Skeleton className="!h-8" />
                  <Skeleton className="w-2/3" />
                </div>
              </Loading>
            ) : (
              providers.data.map((provider) => (
                <ProviderCard
                  key={provider.name}
                  provider={provider}
                  chosen={model?.provider === provider.name}
                  footer={<Footer provider={provider} models={all} chosen={chosen} use={use} />}
                >
                  {provider.kind === "demo" ? <p className="small ink2">{t.demoText}</p> : null}
                </ProviderCard>
              ))
            )}
          </div>
        )}
      </div>
      <div className="flex items-center gap-4 border-t border-line bg-bg px-4 py-2.5 max-md:fixed max-md:inset-x-0 max-md:bottom-0 md:px-8 md:py-3.5">
        <div className="rcpt max-md:!hidden" role="status">
          {model ? (
            <>
              <span className="l">
                <KindMark kind={model.kind} />
                <span className="trunc">
                  <b>{model.title || model.name}</b> {t.thinks}
                </span>
              </span>
              <Dots />
              <span className="r">{priceText(model)}</span>
            </>
          ) : (
            t.nothing
          )}
        </div>
        {model ? null : (
          <Button variant="ghost" onClick={onDone}>
            {strings.common.skip}
          </Button>
        )}
        <Button variant="primary" disabled={!model} onClick={onDone} className="max-md:grow">
          {strings.common.continue}
        </Button>
      </div>
    </div>
  );
}
