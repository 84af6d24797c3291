"use client";

import { useState, type FormEvent } from "react";

import { useApiKeys, useCreateApiKey, useRevokeApiKey } from "@/api/queries/session";
import type { ApiKey, CreatedApiKey } from "@/api/types";
import { errorText, ErrorState } from "@/components/error-state";
import { Button } from "@/components/ui/button";
import { CopyButton } from "@/components/ui/copy";
import { ConfirmDialog, Dialog } from "@/components/ui/dialog";
import { Empty } from "@/components/ui/empty";
import { IconAdd } from "@/components/ui/icon";
import { Field, Input } from "@/components/ui/input";
import { SkeletonRows } from "@/components/ui/skeleton";
import { SectionHead, Term, Terms } from "@/components/ui/terms";
import { toast } from "@/components/ui/toast";
import { ago, date } from "@/lib/format";
import { strings } from "@/lib/strings";

const t = strings.settings;

function NewKey({ onClose, onCreated }: { onClose: () => void; onCreated: (key: CreatedApiKey) => void }) {
  const create = useCreateApiKey();
  const [name, setName] = useState("");
  const [tried, setTried] = useState(false);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (name.trim() && !create.isPending) create.mutate(name.trim(), { onSuccess: onCreated });
  };
  const error = tried && !name.trim() ? strings.common.required : create.isError ? errorText(create.error) : undefined;
  return (
    <Dialog
      open
      onOpenChange={onClose}
      title={t.newKey}
      footer={
        <>
          <Button onClick={onClose}>{strings.common.cancel}</Button>
          <Button variant="primary" type="submit" form="new-key" busy={create.isPending}>
            {t.createKey}
          </Button>
        </>
      }
    >
      <form id="new-key" onSubmit={submit}>
        <Field label={t.keyName} error={error}>
          {(wiring) => (
            <Input {...wiring} maxLength={200} placeholder={t.keyNamePlaceholder} value={name} onChange={(event) => setName(event.target.value)} />
          )}
        </Field>
      </form>
    </Dialog>
  );
}

function ShownOnce({ made, onClose }: { made: CreatedApiKey; onClose: () => void }) {
  return (
    <Dialog
      open
      onOpenChange={onClose}
      title={t.keyCreated(made.name)}
      description={t.keyOnce}
      footer={
        <>
          <CopyButton text={made.key} label={t.copyKey} />
          <Button variant="primary" onClick={onClose}>
            {t.keyDone}
          </Button>
        </>
      }
    >
      <output className="well mono block select-all px-3 py-2.5 [overflow-wrap:anywhere]">{made.key}</output>
    </Dialog>
  );
}

function Revoke({ apiKey, onClose }: { apiKey: ApiKey; onClose: () => void }) {
  const revoke = useRevokeApiKey();
  return (
    <ConfirmDialog
      open
      onOpenChange={onClose}
      title={t.revokeTitle(apiKey.name)}
      description={t.revokeText}
      verb={t.revokeVerb(apiKey.name)}
      onConfirm={async () => {
        await revoke.mutateAsync(apiKey.key_id);
        toast({ text: t.revoked(apiKey.name) });
      }}
    >
      <Terms>
        <Term name={t.keyColumns.key}>{apiKey.prefix}…</Term>
        <Term name={t.keyColumns.used}>{apiKey.last_used_at ? ago(apiKey.last_used_at) : t.neverUsed}</Term>
      </Terms>
    </ConfirmDialog>
  );
}

export function KeysTab() {
  const keys = useApiKeys();
  const [adding, setAdding] = useState(false);
  const [made, setMade] = useState<CreatedApiKey>();
  const [revoking, setRevoking] = useState<ApiKey>();
  const add = (
    <Button onClick={() => setAdding(true)}>
      <IconAdd className="ic-s" aria-hidden="true" />
      {t.newKey}
    </Button>
  );
  return (
    <section aria-labelledby="keys">
      <SectionHead id="keys" title={t.keysTitle} aside={<span className="max-sm:hidden">{t.keysAside}</span>} />
      <div>
        {keys.isPending ? (
          <SkeletonRows rows={2} />
        ) : keys.isError ? (
          <ErrorState error={keys.error} onRetry={() => void keys.refetch()} retrying={keys.isFetching} />
        ) : keys.data.items.length === 0 ? (
          <div className="pt-4">
            <Empty title={t.keysEmpty} action={add}>
              {t.keysEmptyText}
            </Empty>
          </div>
        ) : (
          <>
            <ul className="rows" aria-label={t.keysTitle}>
              {keys.data.items.map((key) => (
                <li key={key.key_id} className="flex flex-wrap items-center gap-x-4 gap-y-1 py-2">
                  <span className="small med grow max-sm:basis-full">{key.name}</span>
                  <span className="mono muted">{key.prefix}…</span>
                  <span className="small muted sm:w-[132px] sm:text-right">{date(key.created_at)}</span>
                  <span className="small muted sm:w-[112px] sm:text-right">{key.last_used_at ? ago(key.last_used_at) : t.neverUsed}</span>
                  <Button size="s" variant="danger" aria-label={t.revokeVerb(key.name)} onClick={() => setRevoking(key)}>
                    {t.revoke}
                  </Button>
                </li>
              ))}
            </ul>
            <div className="pt-4">{add}</div>
          </>
        )}
      </div>
      {adding ? (
        <NewKey
          onClose={() => setAdding(false)}
          onCreated={(key) => {
            setAdding(false);
            setMade(key);
          }}
        />
      ) : null}
      {made ? <ShownOnce made={made} onClose={() => setMade(undefined)} /> : null}
      {revoking ? <Revoke apiKey={revoking} onClose={() => setRevoking(undefined)} /> : null}
    </section>
  );
}
