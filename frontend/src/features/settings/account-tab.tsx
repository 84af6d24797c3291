"use client";

import { useState, type FormEvent } from "react";

import { useMe, useUpdateMe } from "@/api/queries/session";
import type { Me } from "@/api/types";
import { errorText, ErrorState } from "@/components/error-state";
import { Button } from "@/components/ui/button";
import { Field, Input, ReadOnly } from "@/components/ui/input";
import { SkeletonRows } from "@/components/ui/skeleton";
import { SectionHead } from "@/components/ui/terms";
import { toast } from "@/components/ui/toast";
import { strings } from "@/lib/strings";

const t = strings.settings;
const shortest = 10;

function Profile({ me }: { me: Me }) {
  const update = useUpdateMe();
  const [name, setName] = useState(me.user.name);
  const empty = !name.trim();
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (empty || update.isPending) return;
    update.mutate({ name: name.trim() }, { onSuccess: () => toast({ text: t.profileSaved }) });
  };
  return (
    <section aria-labelledby="profile">
      <SectionHead id="profile" title={t.profile} aside={`${t.role}: ${me.account.role}`} />
      <form onSubmit={submit} className="flex max-w-[440px] flex-col gap-4 pt-4">
        <Field label={t.name} error={empty ? strings.common.required : update.isError ? errorText(update.error) : undefined}>
          {(wiring) => <Input {...wiring} autoComplete="name" maxLength={200} value={name} onChange={(event) => setName(event.target.value)} />}
        </Field>
        <div className="field">
          <span className="lab">{t.email}</span>
          <ReadOnly>{me.user.email}</ReadOnly>
        </div>
        <div>
          <Button type="submit" disabled={empty || name === me.user.name} busy={update.isPending}>
            {strings.common.save}
          </Button>
        </div>
      </form>
    </section>
  );
}

function Password() {
  const update = useUpdateMe();
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  const [tried, setTried] = useState(false);
  const short = next.length < shortest;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (!current || short || update.isPending) return;
    update.mutate(
      { current_password: current, new_password: next },
      {
        onSuccess: () => {
          setCurrent("");
          setNext("");
          setTried(false);
          toast({ text: t.passwordChanged });
        },
      },
    );
  };
  return (
    <section aria-labelledby="password">
      <SectionHead id="password" title={t.password} />
      <form onSubmit={submit} noValidate className="flex max-w-[440px] flex-col gap-4 pt-4">
        <Field label={t.currentPassword} error={tried && !current ? strings.common.required : update.isError ? errorText(update.error) : undefined}>
          {(wiring) => (
            <Input {...wiring} type="password" autoComplete="current-password" value={current} onChange={(event) => setCurrent(event.target.value)} />
          )}
        </Field>
        <Field
          label={t.newPassword}
          hint={strings.setup.owner.passwordHint}
          error={tried && short ? strings.setup.owner.shortPassword(shortest - next.length) : undefined}
        >
          {(wiring) => (
            <Input {...wiring} type="password" autoComplete="new-password" value={next} onChange={(event) => setNext(event.target.value)} />
          )}
        </Field>
        <div>
          <Button type="submit" busy={update.isPending}>
            {t.changePassword}
          </Button>
        </div>
      </form>
    </section>
  );
}

export function AccountTab() {
  const me = useMe();
  if (me.isPending) return <SkeletonRows rows={2} />;
  if (me.isError) return <ErrorState error={me.error} onRetry={() => void me.refetch()} />;
  return (
    <div className="col gap-8">
      <Profile me={me.data} />
      <Password />
    </div>
  );
}
