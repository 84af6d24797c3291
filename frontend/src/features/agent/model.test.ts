import type { ToolInfo } from "@/api/types";
import { config } from "./fixtures";
import { actionPermission, countDiff, equal, modelName, setActionPermission, setToolPermission, toolPermission, withModel } from "./model";

const shell: ToolInfo = {
  name: "code_execution",
  module: "sb_shell_tool",
  title: "Shell",
  description: "",
  on: true,
  reason: "",
  fix: "",
  actions: [
    { name: "shell", description: "", effect: "once", default_permission: "allow" },
    { name: "shell_output", description: "", effect: "read", default_permission: "allow" },
  ],
};
const [run, output] = shell.actions as [ToolInfo["actions"][number], ToolInfo["actions"][number]];

test("a tool that the agent does not have never runs, whatever its permissions say", () => {
  const without = config({ permissions: { shell: "allow" } });
  expect(toolPermission(without, shell)).toBe("deny");
  expect(actionPermission(without, shell, run)).toBe("deny");
});

test("an action follows its own entry, then its tool's, then its default", () => {
  const both = config({ tools: ["code_execution"], permissions: { code_execution: "ask", shell: "deny" } });
  expect(actionPermission(both, shell, run)).toBe("deny");
  expect(actionPermission(both, shell, output)).toBe("ask");
  expect(actionPermission(config({ tools: ["code_execution"] }), shell, output)).toBe("allow");
});

test("a tool whose actions differ has no one permission", () => {
  const mixed = setActionPermission(config({ tools: ["code_execution"] }), "shell", "ask");
  expect(toolPermission(mixed, shell)).toBeUndefined();
});

test("choosing for a whole tool takes its actions with it, and never takes the tool away", () => {
  const mixed = config({ tools: ["code_execution"], permissions: { shell: "deny" } });
  const asking = setToolPermission(mixed, shell, "ask");
  expect(toolPermission(asking, shell)).toBe("ask");
  const never = setToolPermission(asking, shell, "deny");
  expect(never.tools).toEqual([]);
  expect(never.permissions).toEqual({});
  expect(toolPermission(setToolPermission(never, shell, "allow"), shell)).toBe("allow");
});

test("rules on arguments outlive every choice made by a click", () => {
  const rules = [{ when: { command: "git *" }, decision: "allow" as const }];
  const ruled = config({ tools: ["code_execution"], permissions: { shell: { default: "ask", rules } } });
  const never = setToolPermission(setActionPermission(ruled, "shell", "deny"), shell, "ask");
  expect(never.permissions?.shell).toEqual({ default: "deny", rules });
});

test("a model's name may hold slashes", () => {
  const chosen = withModel(config(), "openrouter/anthropic/claude-sonnet-4.5");
  expect(chosen.model).toEqual({ provider: "openrouter", name: "anthropic/claude-sonnet-4.5" });
  expect(modelName(chosen)).toBe("openrouter/anthropic/claude-sonnet-4.5");
  expect(modelName(withModel(chosen, ""))).toBe("");
});

test("order, null and absence are no change", () => {
  expect(equal({ a: 1, b: { c: [1, 2] } }, { b: { c: [1, 2] }, a: 1 })).toBe(true);
  expect(equal({ a: 1, wallet: null, permissions: {} }, { a: 1 })).toBe(true);
  expect(equal({ tools: ["a", "b"] }, { tools: ["b", "a"] })).toBe(false);
});

test("a diff is counted without its header", () => {
  expect(countDiff("--- v4\n+++ draft\n@@ -1,2 +1,2 @@\n name: a\n-old\n+new\n+more\n")).toEqual({ added: 2, removed: 1 });
});
