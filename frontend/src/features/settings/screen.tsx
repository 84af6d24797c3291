"use client";

import { Frame } from "@/components/shell/frame";
import { Tabs } from "@/components/ui/tabs";
import { strings } from "@/lib/strings";
import { useSearchState } from "@/lib/use-search-state";
import { AccountTab } from "./account-tab";
import { AppearanceTab } from "./appearance-tab";
import { HealthTab } from "./health-tab";
import { KeysTab } from "./keys-tab";
import { ModelsTab } from "./models-tab";

const t = strings.settings;
const names = ["models", "keys", "account", "appearance", "health"] as const;
type Name = (typeof names)[number];

const contents: Record<Name, () => React.ReactNode> = {
  models: () => <ModelsTab />,
  keys: () => <KeysTab />,
  account: () => <AccountTab />,
  appearance: () => <AppearanceTab />,
  health: () => <HealthTab />,
};

export function SettingsScreen() {
  const [inAddress, setTab] = useSearchState("tab");
  const tab = names.find((name) => name === inAddress) ?? "models";
  return (
    <Frame title={t.title}>
      <div className="mx-auto max-w-[960px]">
        <Tabs
          label={t.title}
          value={tab}
          onChange={(next) => setTab(next === "models" ? "" : next)}
          tabs={names.map((name) => ({ value: name, label: t.tabs[name], content: <div className="pt-6">{contents[name]()}</div> }))}
        />
      </div>
    </Frame>
  );
}
