"use client";

import type { Agent, AgentConfig } from "@/api/types";
import { ModelPicker } from "@/components/model-picker";
import { Badge } from "@/components/ui/badge";
import { Field, Input, Textarea } from "@/components/ui/input";
import { SectionHead } from "@/components/ui/terms";
import { count, dollars, parseDollars } from "@/lib/format";
import { strings } from "@/lib/strings";
import { modelName, withModel } from "./model";
import { decimalBetween, NumberField, wholeBetween } from "./number-field";
import { Tools } from "./tools";

const t = strings.agent;
const c = strings.common;

const partNames = ["knowledge_base", "memory", "triggers", "routing", "mcp", "wallet"] as const;

function isSet(value: unknown): boolean {
  return Array.isArray(value) ? value.length > 0 : value !== null && value !== undefined;
}

/** What the configuration says and the form has no fields for: kept as it is, off with its reason where it does not work. */
function OtherParts({ agent, config }: { agent: Agent; config: AgentConfig }) {
  const set = partNames.filter((name) => isSet(config[name]));
  if (set.length === 0) return null;
  return (
    <section aria-labelledby="agent-parts">
      <SectionHead id="agent-parts" title={t.parts} aside={t.partsAside} />
      <ul>
        {set.map((name) => {
          const off = agent.off?.find((part) => part.part === name || part.part.startsWith(`${name}.`));
          return (
            <li key={name} className="flex min-h-[39px] items-center gap-2.5 border-b border-line py-1">
              <span className="small med w-[140px]">{t.part[name]}</span>
              <span className="small muted grow">{off ? `${off.reason} ${off.fix ? t.fix(off.fix) : ""}` : t.partYaml}</span>
              {off ? <Badge tone="bad">{t.toolOff}</Badge> : null}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

export function AgentForm({
  agent,
  config,
  change,
  onValidity,
  disabled,
}: {
  agent: Agent;
  config: AgentConfig;
  change: (config: AgentConfig) => void;
  onValidity: (field: string, valid: boolean) => void;
  disabled: boolean;
}) {
  const limits = config.limits;
  const setLimits = (next: Partial<AgentConfig["limits"]>) => change({ ...config, limits: { ...limits, ...next } });
  const number = { onValidity, disabled };
  return (
    <fieldset disabled={disabled} className="col gap-5">
      <Field label={t.name} error={config.name.trim() ? undefined : c.required}>
        {(wiring) => <Input {...wiring} maxLength={255} value={config.name} onChange={(event) => change({ ...config, name: event.target.value })} />}
      </Field>
      <Field label={t.instructions} aside={t.characters(count(config.system_prompt.length))} hint={t.instructionsHint}>
        {(wiring) => (
          <Textarea
            {...wiring}
            className="field-sizing-content max-h-[480px] min-h-[120px]"
            maxLength={200_000}
            value={config.system_prompt}
            onChange={(event) => change({ ...config, system_prompt: event.target.value })}
          />
        )}
      </Field>
      <div className="grid gap-4 sm:grid-cols-[minmax(0,1fr)_140px_160px]">
        <Field label={t.model}>
          {(wiring) => <ModelPicker {...wiring} allowDefault value={modelName(config)} disabled={disabled} onChange={(next) => change(withModel(config, next))} />}
        </Field>
        <NumberField
          {...number}
          label={t.temperature}
          value={config.model.temperature ?? null}
          optional
          parse={decimalBetween(0, 2)}
          show={(value) => (value === null ? "" : String(value))}
          wrong={t.numberRange(0, 2)}
          onChange={(temperature) => change({ ...config, model: { ...config.model, temperature } })}
        />
        <NumberField
          {...number}
          label={t.maxTokens}
          value={config.model.max_tokens ?? null}
          optional
          parse={wholeBetween(1, 1_000_000)}
          show={(value) => (value === null ? "" : String(value))}
          wrong={t.numberRange(1, 1_000_000)}
          unit={t.tokensUnit}
          onChange={(max_tokens) => change({ ...config, model: { ...config.model, max_tokens } })}
        />
      </div>
      <Tools agent={agent} config={config} change={change} disabled={disabled} />
      <section aria-labelledby="agent-limits">
        <SectionHead id="agent-limits" title={t.limits} aside={<span className="max-sm:hidden">{t.limitsAside}</span>} />
        <div className="grid grid-cols-2 gap-4 pt-3 sm:grid-cols-4">
          <NumberField
            {...number}
            label={t.maxSteps}
            value={limits.max_steps}
            parse={wholeBetween(1, 1000)}
            show={String}
            wrong={t.numberRange(1, 1000)}
            onChange={(max_steps) => setLimits({ max_steps })}
          />
          <NumberField
            {...number}
            label={t.maxSeconds}
            value={limits.max_seconds}
            parse={wholeBetween(1, 86_400)}
            show={String}
            wrong={t.numberRange(1, 86_400)}
            onChange={(max_seconds) => setLimits({ max_seconds })}
          />
          <NumberField
            {...number}
            label={t.maxCost}
            value={limits.max_cost_micro_usd ?? null}
            optional
            parse={parseDollars}
            show={dollars}
            wrong={t.amount}
            unit="USD"
            onChange={(max_cost_micro_usd) => setLimits({ max_cost_micro_usd })}
          />
          <NumberField
            {...number}
            label={t.contextTokens}
            value={limits.context_tokens}
            parse={wholeBetween(1_000, 2_000_000)}
            show={String}
            wrong={t.numberRange(1_000, 2_000_000)}
            unit={t.tokensUnit}
            onChange={(context_tokens) => setLimits({ context_tokens })}
          />
        </div>
        <p className="hint mt-1.5">{t.maxCostHint}</p>
      </section>
      <OtherParts agent={agent} config={config} />
    </fieldset>
  );
}
