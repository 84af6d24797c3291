/** What the editor knows of a configuration: which tools are on, what each action may do, whether something changed. */

import type { AgentConfig, Permission, ToolInfo } from "@/api/types";

type Rule = NonNullable<AgentConfig["permissions"]>[string];

/** Equal as JSON, whatever the order of keys; absent, null and empty count as one. */
export function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (isNothing(a) && isNothing(b)) return true;
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((one, at) => equal(one, b[at]));
  if (isRecord(a) && isRecord(b)) return [...new Set([...Object.keys(a), ...Object.keys(b)])].every((key) => equal(a[key], b[key]));
  return false;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isNothing(value: unknown): boolean {
  return value === undefined || value === null || (isRecord(value) && Object.keys(value).length === 0);
}

const plain = (rule: Rule | undefined): Permission | undefined => (typeof rule === "object" ? rule.default : rule);

export const rulesOn = (config: AgentConfig, action: string): number => {
  const rule = config.permissions?.[action];
  return typeof rule === "object" ? rule.rules.length : 0;
};

/** What an action may do, as the server decides it: its own entry, its tool's, then the action's default. */
export function actionPermission(config: AgentConfig, tool: ToolInfo, action: ToolInfo["actions"][number]): Permission {
  if (!config.tools.includes(tool.name)) return "deny";
  return plain(config.permissions?.[action.name]) ?? plain(config.permissions?.[tool.name]) ?? action.default_permission;
}

/** What a whole tool may do; undefined when its actions differ. */
export function toolPermission(config: AgentConfig, tool: ToolInfo): Permission | undefined {
  if (!config.tools.includes(tool.name)) return "deny";
  const all = new Set(tool.actions.map((action) => actionPermission(config, tool, action)));
  if (all.size > 1) return undefined;
  return [...all][0] ?? plain(config.permissions?.[tool.name]) ?? "allow";
}

function without(permissions: AgentConfig["permissions"], names: readonly string[]): Record<string, Rule> {
  return Object.fromEntries(Object.entries(permissions ?? {}).filter(([name]) => !names.includes(name)));
}

/** A tool as a whole. `deny` takes it from the agent; otherwise its actions follow it, except where they have rules. */
export function setToolPermission(config: AgentConfig, tool: ToolInfo, permission: Permission): AgentConfig {
  const followers = tool.actions.map((action) => action.name).filter((name) => rulesOn(config, name) === 0);
  const rest = without(config.permissions, [tool.name, ...followers]);
  if (permission === "deny") {
    return { ...config, tools: config.tools.filter((name) => name !== tool.name), permissions: rest };
  }
  const usual = tool.actions.every((action) => action.default_permission === permission);
  return {
    ...config,
    tools: config.tools.includes(tool.name) ? config.tools : [...config.tools, tool.name],
    permissions: usual ? rest : { ...rest, [tool.name]: permission },
  };
}

/** One action of a tool; its rules on arguments stay. */
export function setActionPermission(config: AgentConfig, action: string, permission: Permission): AgentConfig {
  const rule = config.permissions?.[action];
  const next: Rule = typeof rule === "object" ? { ...rule, default: permission } : permission;
  return { ...config, permissions: { ...config.permissions, [action]: next } };
}

export function modelName(config: AgentConfig): string {
  const { provider, name } = config.model;
  return provider && name ? `${provider}/${name}` : "";
}

/** `provider/name` into its parts: a model's own name may hold slashes. */
export function withModel(config: AgentConfig, full: string): AgentConfig {
  const cut = full.indexOf("/");
  const provider = cut < 0 ? "" : full.slice(0, cut);
  const name = cut < 0 ? "" : full.slice(cut + 1);
  return { ...config, model: { ...config.model, provider, name } };
}

export interface DiffCount {
  added: number;
  removed: number;
}

export function countDiff(diff: string): DiffCount {
  const lines = diff.split("\n").filter((line) => !line.startsWith("+++") && !line.startsWith("---"));
  return {
    added: lines.filter((line) => line.startsWith("+")).length,
    removed: lines.filter((line) => line.startsWith("-")).length,
  };
}
