"use client";

import { useEffect, useRef, useState, type FormEvent, type ReactNode } from "react";

import { useModels, useRemoveProvider, useSetProvider, useTestProvider } from "@/api/queries/inference";
import type { ProviderStatus, ProviderTest, ProviderUpdate } from "@/api/types";
import { cn } from "@/lib/cn";
import { ago } from "@/lib/format";
import { strings } from "@/lib/strings";
import { errorText } from "./error-state";
import { StateMark } from "./ui/badge";
import { Button, IconButton } from "./ui/button";
import { ConfirmDialog } from "./ui/dialog";
import { IconBusy, IconClose, IconDelete, IconDone, IconEdit, IconLock, IconMore, IconUnplugged } from "./ui/icon";
import { InputGroup, ReadOnly } from "./ui/input";
import { KindMark } from "./ui/kind";
import { Menu, MenuItem } from "./ui/menu";
import { toast } from "./ui/toast";

const t = strings.provider;

/** A provider that is asked for its address instead of a key. */
const byAddress = (provider: ProviderStatus): boolean => provider.takes_base_url && !provider.needs_key;

function Status({ provider, testing, failed, models }: { provider: ProviderStatus; testing: boolean; failed: boolean; models: number }) {
  const icon = (Icon: typeof IconDone) => <Icon className="ic-s" aria-hidden="true" />;
  if (testing) return <StateMark icon={icon(IconBusy)}>{t.testing}</StateMark>;
  if (failed) {
    return (
      <StateMark tone="bad" icon={icon(provider.needs_key ? IconClose : IconUnplugged)}>
        {provider.needs_key ? t.rejected : t.noAnswer}
      </StateMark>
    );
  }
  if (provider.kind === "demo") return <StateMark icon={icon(IconDone)}>{t.always}</StateMark>;
  if (provider.configured && provider.test_ok) {
    const works = provider.kind === "local" ? t.running(models) : `${provider.needs_key ? t.works : t.answers}, ${t.models(models)}`;
    return (
      <StateMark tone="live" icon={icon(IconDone)}>
        {works}
      </StateMark>
    );
  }
  if (provider.source === "environment") return <StateMark icon={icon(IconLock)}>{t.setByServer}</StateMark>;
  if (!provider.configured) return <StateMark>{provider.needs_key ? t.noKey : provider.base_url ? t.notRunning : t.noAddress}</StateMark>;
  return <StateMark>{t.untested}</StateMark>;
}

/** What is typed into a card. Left empty, what is stored stays. */
function useEntry(provider: ProviderStatus) {
  const [editing, setEditing] = useState(false);
  const [key, setKey] = useState("");
  const [address, setAddress] = useState(provider.base_url);
  const update: ProviderUpdate = {
    ...(key.trim() ? { api_key: key.trim() } : {}),
    ...(byAddress(provider) && address.trim() ? { base_url: address.trim() } : {}),
  };
  const clear = () => {
    setEditing(false);
    setKey("");
  };
  return { editing, setEditing, key, setKey, address, setAddress, update, clear };
}

/** One place that models come from: its state, its key or address, a test that is one real call. `footer` stands at its foot. */
export function ProviderCard({
  provider,
  chosen,
  footer,
  children,
}: {
  provider: ProviderStatus;
  /** Marks the card whose model is in use. */
  chosen?: boolean;
  footer?: ReactNode;
  children?: ReactNode;
}) {
  const entry = useEntry(provider);
  const test = useTestProvider();
  const save = useSetProvider();
  const [result, setResult] = useState<ProviderTest>();
  const [problem, setProblem] = useState<string>();
  const [removing, setRemoving] = useState(false);
  const models = (useModels().data ?? []).filter((model) => model.provider === provider.name).length;
  const open = entry.editing || (!provider.configured && provider.source !== "environment");
  const busy = test.isPending || save.isPending;
  const failed = problem !== undefined || (result ? !result.ok : provider.configured && provider.test_ok === false);

  const runTest = async (update: ProviderUpdate) => {
    setProblem(undefined);
    try {
      const answer = await test.mutateAsync({ name: provider.name, update });
      setResult(answer);
      if (!answer.ok || Object.keys(update).length === 0) return;
      // Only what was seen to work is stored.
      await save.mutateAsync({ name: provider.name, update });
      entry.clear();
      toast({ text: t.saved(provider.title) });
    } catch (error) {
      setProblem(errorText(error));
    }
  };

  // A local server is asked at once: nobody should have to press a button to learn that it runs.
  const probed = useRef(false);
  const probe = provider.kind === "local" && provider.configured && provider.tested_at == null;
  useEffect(() => {
    if (!probe || probed.current) return;
    probed.current = true;
    void test.mutateAsync({ name: provider.name, update: {} }).then(setResult, () => undefined);
  }, [probe, provider.name, test]);

  const says = problem ?? result?.detail ?? (provider.test_ok === false ? provider.test_detail : undefined);
  return (
    <article
      aria-label={provider.title}
      className={cn("sheet flex min-h-[150px] flex-col gap-2.5 px-4 py-3", provider.kind === "demo" && "demo", chosen && "on")}
    >
      <header className="row min-h-5">
        <KindMark kind={provider.kind} />
        <h3 className="trunc">{provider.title}</h3>
        <span className="push">
          <Status provider={provider} testing={busy} failed={failed} models={models} />
        </span>
      </header>
      {children}
      {provider.kind === "demo" ? null : open ? (
        <EntryForm provider={provider} entry={entry} busy={busy} failed={failed} onTest={(update) => void runTest(update)} />
      ) : (
        <div className="row">
          <ReadOnly
            locked={provider.source === "environment"}
            aside={
              provider.source === "environment" ? (
                <IconLock className="ic-s" aria-label={t.setByServer} />
              ) : provider.tested_at ? (
                <span className="mono-s max-sm:hidden">{t.tested(ago(provider.tested_at))}</span>
              ) : null
            }
          >
            {byAddress(provider) ? provider.base_url : `…${provider.hint}`}
          </ReadOnly>
          <Button onClick={() => void runTest({})} busy={busy}>
            {provider.tested_at ? t.testAgain : t.test}
          </Button>
          {provider.source === "environment" ? null : (
            <Menu
              trigger={
                <IconButton variant="ghost" label={`${strings.common.more}: ${provider.title}`}>
                  <IconMore className="ic-s" aria-hidden="true" />
                </IconButton>
              }
            >
              <MenuItem icon={<IconEdit className="ic-s" aria-hidden="true" />} onSelect={() => entry.setEditing(true)}>
                {provider.needs_key ? t.replace : t.change}
              </MenuItem>
              {provider.source === "account" ? (
                <MenuItem icon={<IconDelete className="ic-s" aria-hidden="true" />} tone="bad" onSelect={() => setRemoving(true)}>
                  {t.remove}
                </MenuItem>
              ) : null}
            </Menu>
          )}
        </div>
      )}
      <p className={cn("hint !text-[12.5px] !leading-[18px]", failed && "bad")} role="status">
        {failed && says ? says : hintOf(provider, open, result)}
      </p>
      {footer ? <footer className="mt-auto min-w-0">{footer}</footer> : null}
      <RemoveProvider provider={provider} open={removing} onOpenChange={setRemoving} onRemoved={() => setResult(undefined)} />
    </article>
  );
}

function hintOf(provider: ProviderStatus, open: boolean, result: ProviderTest | undefined): string {
  if (provider.kind === "demo") return "";
  if (result?.ok) return `${result.detail} ${t.latency(result.latency_ms)}`;
  if (provider.source === "environment") return t.setByServerHint;
  if (provider.name === "ollama" && !provider.test_ok) return t.ollamaHint;
  if (provider.name === "ollama") return t.thisMachine;
  if (open && byAddress(provider)) return t.addressHint;
  if (open) return t.testHint;
  return provider.test_detail;
}

function EntryForm({
  provider,
  entry,
  busy,
  failed,
  onTest,
}: {
  provider: ProviderStatus;
  entry: ReturnType<typeof useEntry>;
  busy: boolean;
  failed: boolean;
  onTest: (update: ProviderUpdate) => void;
}) {
  const wantsAddress = byAddress(provider);
  const wantsKey = provider.needs_key || provider.name !== "ollama";
  const [badAddress, setBadAddress] = useState(false);
  const complete = wantsAddress ? entry.address.trim() !== "" : entry.key.trim() !== "";
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const bad = wantsAddress && !/^https?:\/\/\S+$/.test(entry.address.trim());
    setBadAddress(bad);
    if (!bad && complete && !busy) onTest(entry.update);
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-2">
      {wantsAddress ? (
        <div className="row">
          <InputGroup
            mono
            aria-label={`${t.address}: ${provider.title}`}
            aria-invalid={badAddress || (failed && wantsAddress) || undefined}
            placeholder={t.address}
            value={entry.address}
            spellCheck={false}
            autoComplete="off"
            onChange={(event) => entry.setAddress(event.target.value)}
          />
          {wantsKey ? null : <TestButton busy={busy} off={!complete} again={failed} />}
        </div>
      ) : null}
      {wantsKey ? (
        <div className="row">
          <InputGroup
            mono
            type="password"
            aria-label={`${t.key}: ${provider.title}`}
            aria-invalid={(failed && provider.needs_key) || undefined}
            placeholder={provider.needs_key ? t.pasteKey : t.keyOptional}
            value={entry.key}
            spellCheck={false}
            autoComplete="off"
            onChange={(event) => entry.setKey(event.target.value)}
          />
          <TestButton busy={busy} off={!complete} again={failed} />
          {entry.editing ? (
            <IconButton variant="ghost" label={strings.common.cancel} onClick={entry.clear}>
              <IconClose className="ic-s" aria-hidden="true" />
            </IconButton>
          ) : null}
        </div>
      ) : null}
      {badAddress ? (
        <p role="alert" className="hint bad">
          {t.badAddress}
        </p>
      ) : null}
    </form>
  );
}

function TestButton({ busy, off, again }: { busy: boolean; off: boolean; again: boolean }) {
  return (
    <Button type="submit" busy={busy} disabled={off}>
      {again ? t.testAgain : t.test}
    </Button>
  );
}

function RemoveProvider({
  provider,
  open,
  onOpenChange,
  onRemoved,
}: {
  provider: ProviderStatus;
  open: boolean;
  onOpenChange: (open: boolean) => void;
  onRemoved: () => void;
}) {
  const remove = useRemoveProvider();
  return (
    <ConfirmDialog
      open={open}
      onOpenChange={onOpenChange}
      title={t.removeTitle(provider.title)}
      description={t.removeText}
      verb={t.remove}
      onConfirm={async () => {
        await remove.mutateAsync(provider.name);
        onRemoved();
        toast({ text: t.removed(provider.title) });
      }}
    />
  );
}
