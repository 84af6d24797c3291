"use client";

import { useInferenceSettings, useModels, useProviders, useSetDefaultModel } from "@/api/queries/inference";
import { errorText, ErrorState } from "@/components/error-state";
import { ModelPicker } from "@/components/model-picker";
import { ProviderCard } from "@/components/provider-card";
import { Field } from "@/components/ui/input";
import { SkeletonRows } from "@/components/ui/skeleton";
import { SectionHead } from "@/components/ui/terms";
import { toast } from "@/components/ui/toast";
import { strings } from "@/lib/strings";
import { Prices } from "./prices";

const t = strings.settings;

function DefaultModel() {
  const settings = useInferenceSettings();
  const set = useSetDefaultModel();
  if (settings.isError) return <ErrorState error={settings.error} onRetry={() => void settings.refetch()} />;
  return (
    <Field label={t.defaultModel} hint={t.defaultModelHint} className="max-w-[440px]">
      {(wiring) => (
        <ModelPicker
          {...wiring}
          value={settings.data?.default_model ?? ""}
          disabled={settings.isPending}
          onChange={(model) =>
            set.mutate(model, {
              onSuccess: () => toast({ text: t.defaultSaved }),
              onError: (error) => toast({ text: errorText(error), tone: "bad" }),
            })
          }
        />
      )}
    </Field>
  );
}

export function ModelsTab() {
  const providers = useProviders();
  const models = useModels();
  return (
    <div className="col gap-8">
      <DefaultModel />
      <section aria-labelledby="providers">
        <SectionHead id="providers" title={t.providers} aside={<span className="max-sm:hidden">{t.providersAside}</span>} />
        <div className="pt-4">
          {providers.isPending ? (
            <SkeletonRows rows={3} />
          ) : providers.isError ? (
            <ErrorState error={providers.error} onRetry={() => void providers.refetch()} retrying={providers.isFetching} />
          ) : (
            <div className="grid gap-4 lg:grid-cols-2">
              {providers.data.map((provider) => (
                <ProviderCard key={provider.name} provider={provider}>
                  {provider.kind === "demo" ? <p className="small ink2">{strings.setup.brain.demoText}</p> : null}
                </ProviderCard>
              ))}
            </div>
          )}
        </div>
      </section>
      <section aria-labelledby="prices">
        <SectionHead id="prices" title={t.prices} count={models.data?.length} aside={<span className="max-sm:hidden">{t.pricesAside}</span>} />
        <p className="hint py-2">{t.pricesText}</p>
        {models.isPending ? (
          <SkeletonRows rows={4} />
        ) : models.isError ? (
          <ErrorState error={models.error} onRetry={() => void models.refetch()} retrying={models.isFetching} />
        ) : (
          <Prices models={models.data} />
        )}
      </section>
    </div>
  );
}
