"use client";

import { useState } from "react";

import { useTools } from "@/api/queries/tools";
import type { Agent, AgentConfig, ToolInfo } from "@/api/types";
import { ErrorState } from "@/components/error-state";
import { Badge } from "@/components/ui/badge";
import { IconDown, IconFolder, IconKey, IconShell, IconTool, IconWeb } from "@/components/ui/icon";
import { PermissionSeg, Seg } from "@/components/ui/seg";
import { SkeletonRows } from "@/components/ui/skeleton";
import { SectionHead } from "@/components/ui/terms";
import { cn } from "@/lib/cn";
import { strings } from "@/lib/strings";
import { actionPermission, rulesOn, setActionPermission, setToolPermission, toolPermission } from "./model";

const t = strings.agent;

const icons: Record<string, typeof IconTool> = {
  code_execution: IconShell,
  file_operations: IconFolder,
  web_search: IconWeb,
  browser: IconWeb,
  remote_browser: IconWeb,
};

interface Part {
  config: AgentConfig;
  change: (config: AgentConfig) => void;
  disabled: boolean;
}

/** Why a tool does not work here and what to do about it. */
function Off({ reason, fix }: { reason: string; fix: string }) {
  return (
    <p className="small bad flex items-baseline gap-1.5 pb-2 pl-[26px]">
      <IconKey className="ic-s translate-y-0.5" aria-hidden="true" />
      <span>
        {reason} {fix ? <span className="ink2">{t.fix(fix)}</span> : null}
      </span>
    </p>
  );
}

function ActionRow({ tool, action, config, change, disabled }: Part & { tool: ToolInfo; action: ToolInfo["actions"][number] }) {
  const rules = rulesOn(config, action.name);
  return (
    <li className="flex items-center gap-2.5 py-1.5 pl-[26px] max-sm:flex-wrap">
      <span className="mono w-[140px] flex-none">{action.name}</span>
      <span className="small muted grow max-sm:hidden">{action.description}</span>
      {rules > 0 ? <Badge>{t.withRules(rules)}</Badge> : null}
      <span className="mono-s muted max-md:hidden">{t.effects[action.effect]}</span>
      <span className="max-sm:ml-auto">
        <PermissionSeg
          label={t.permissionOf(action.name)}
          value={actionPermission(config, tool, action)}
          disabled={disabled}
          onChange={(next) => change(setActionPermission(config, action.name, next))}
        />
      </span>
    </li>
  );
}

function ToolRow({ tool, config, change, disabled }: Part & { tool: ToolInfo }) {
  const [open, setOpen] = useState(false);
  const Icon = icons[tool.name] ?? IconTool;
  const value = toolPermission(config, tool);
  const chosen = config.tools.includes(tool.name);
  return (
    <li className="border-b border-line">
      <div className="flex min-h-[39px] items-center gap-2.5 py-1">
        <Icon className="ic muted" aria-hidden="true" />
        <span className="mono w-[128px] flex-none max-sm:w-auto max-sm:grow">{tool.name}</span>
        <span className="small muted trunc grow max-sm:hidden">{tool.description}</span>
        {tool.on ? null : <Badge tone="bad">{t.toolOff}</Badge>}
        {value === undefined ? <span className="mono-s muted">{t.mixed}</span> : null}
        {tool.actions.length > 0 && chosen ? (
          <button type="button" className="row mono-s muted hover:text-ink" aria-expanded={open} aria-label={t.showActions(tool.name)} onClick={() => setOpen(!open)}>
            <span className="max-md:hidden">{t.actions(tool.actions.length)}</span>
            <IconDown className={cn("ic-s transition-transform", open && "rotate-180")} aria-hidden="true" />
          </button>
        ) : null}
        <PermissionSeg
          label={t.permissionOf(tool.name)}
          value={value}
          disabled={disabled}
          onChange={(next) => change(setToolPermission(config, tool, next))}
        />
      </div>
      {tool.on ? null : <Off reason={tool.reason} fix={tool.fix} />}
      {open && chosen ? (
        <ul className="pb-2">
          {tool.actions.map((action) => (
            <ActionRow key={action.name} tool={tool} action={action} config={config} change={change} disabled={disabled} />
          ))}
        </ul>
      ) : null}
    </li>
  );
}

/** A tool that the configuration names and this version does not have: kept, shown as off, can be taken out. */
function AbsentTool({ name, agent, config, change, disabled }: Part & { name: string; agent: Agent }) {
  const off = agent.off?.find((part) => part.part === name || part.part.endsWith(`.${name}`));
  return (
    <li className="border-b border-line">
      <div className="flex min-h-[39px] items-center gap-2.5 py-1">
        <IconTool className="ic muted" aria-hidden="true" />
        <span className="mono grow">{name}</span>
        <Badge tone="bad">{t.toolOff}</Badge>
        <PermissionSeg
          label={t.permissionOf(name)}
          value="allow"
          disabled={disabled}
          onChange={(next) => {
            if (next === "deny") change({ ...config, tools: config.tools.filter((one) => one !== name) });
          }}
        />
      </div>
      <Off reason={off?.reason ?? t.toolsUnknown} fix={off?.fix ?? ""} />
    </li>
  );
}

/** What the sandbox may reach: nothing, or everything; single hosts are named in the YAML. */
function NetworkRow({ config, change, disabled }: Part) {
  const rule = config.permissions?.network;
  const open = (typeof rule === "object" ? rule.default : rule) === "allow";
  const hosts = typeof rule === "object" ? rule.rules.filter((one) => one.decision === "allow").length : 0;
  const set = (next: "allow" | "deny") =>
    change({ ...config, permissions: { ...config.permissions, network: typeof rule === "object" ? { ...rule, default: next } : next } });
  return (
    <li className="flex min-h-[39px] items-center gap-2.5 border-b border-line py-1">
      <IconWeb className="ic muted" aria-hidden="true" />
      <span className="mono w-[128px] flex-none max-sm:w-auto max-sm:grow">{t.network}</span>
      <span className="small muted trunc grow max-sm:hidden">{t.networkText}</span>
      {!open && hosts > 0 ? <Badge>{t.networkHosts(hosts)}</Badge> : null}
      <Seg
        label={t.networkText}
        value={open ? "allow" : "deny"}
        disabled={disabled}
        onChange={set}
        options={[
          { value: "allow", label: t.networkOn, tone: "auto" },
          { value: "deny", label: t.networkOff },
        ]}
      />
    </li>
  );
}

export function Tools({ agent, ...part }: Part & { agent: Agent }) {
  const tools = useTools();
  const known = tools.data ?? [];
  const absent = tools.isSuccess ? part.config.tools.filter((name) => !known.some((tool) => tool.name === name)) : [];
  const on = known.filter((tool) => tool.on && part.config.tools.includes(tool.name)).length;
  return (
    <section aria-labelledby="agent-tools">
      <SectionHead
        id="agent-tools"
        title={t.tools}
        count={tools.isSuccess ? t.toolsOn(on, known.length + absent.length) : undefined}
        aside={<span className="max-sm:hidden">{t.toolsAside}</span>}
      />
      {tools.isPending ? (
        <SkeletonRows rows={3} />
      ) : tools.isError ? (
        <div className="pt-3">
          <ErrorState error={tools.error} onRetry={() => void tools.refetch()} retrying={tools.isFetching} />
        </div>
      ) : (
        <ul>
          {known.map((tool) => (
            <ToolRow key={tool.name} tool={tool} {...part} />
          ))}
          {part.config.tools.includes("code_execution") ? <NetworkRow {...part} /> : null}
          {absent.map((name) => (
            <AbsentTool key={name} name={name} agent={agent} {...part} />
          ))}
        </ul>
      )}
    </section>
  );
}
