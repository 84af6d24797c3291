"use client";

import { useState, type FormEvent } from "react";

import { isProblem } from "@/api/problem";
import { useSetup } from "@/api/queries/session";
import { ErrorState } from "@/components/error-state";
import { Button } from "@/components/ui/button";
import { Field, Input } from "@/components/ui/input";
import { isEmail } from "@/lib/next-url";
import { strings } from "@/lib/strings";
import { useSearchState } from "@/lib/use-search-state";

const t = strings.setup.owner;
const shortest = 10;

export function OwnerStep({ onDone }: { onDone: () => void }) {
  const setup = useSetup();
  const [tokenInAddress, setTokenInAddress] = useSearchState("token");
  const [typedToken, setTypedToken] = useState("");
  const [name, setName] = useState("");
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [tried, setTried] = useState(false);
  const token = (tokenInAddress || typedToken).trim();
  const refusedToken = isProblem(setup.error, 403) || isProblem(setup.error, 401);

  const errors = {
    token: tried && !token ? strings.common.required : refusedToken ? setup.error?.message : undefined,
    name: tried && !name.trim() ? strings.common.required : undefined,
    email: tried && !isEmail(email) ? strings.login.badEmail : undefined,
    password: tried && password.length < shortest ? t.shortPassword(shortest - password.length) : undefined,
  };

  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (!token || !name.trim() || !isEmail(email) || password.length < shortest || setup.isPending) return;
    setup.mutate(
      { token, name: name.trim(), email: email.trim(), password },
      {
        onSuccess: () => {
          // The token is used up; it does not stay in the address or the history.
          setTokenInAddress("");
          onDone();
        },
      },
    );
  };

  return (
    <form onSubmit={submit} noValidate className="flex max-w-[440px] flex-col gap-4 p-4 md:p-8 md:pt-[88px]">
      {tokenInAddress && !refusedToken ? null : (
        <Field label={t.token} hint={t.tokenHint} error={errors.token}>
          {(wiring) => (
            <Input
              {...wiring}
              className="mono"
              autoComplete="off"
              spellCheck={false}
              value={typedToken}
              onChange={(event) => {
                setTokenInAddress("");
                setTypedToken(event.target.value);
              }}
            />
          )}
        </Field>
      )}
      <Field label={t.name} error={errors.name}>
        {(wiring) => <Input {...wiring} autoComplete="name" autoFocus value={name} onChange={(event) => setName(event.target.value)} />}
      </Field>
      <Field label={t.email} error={errors.email}>
        {(wiring) => (
          <Input {...wiring} type="email" autoComplete="username" value={email} onChange={(event) => setEmail(event.target.value)} />
        )}
      </Field>
      <Field label={t.password} hint={t.passwordHint} error={errors.password}>
        {(wiring) => (
          <Input
            {...wiring}
            type="password"
            autoComplete="new-password"
            value={password}
            onChange={(event) => setPassword(event.target.value)}
          />
        )}
      </Field>
      {setup.isError && !refusedToken ? <ErrorState error={setup.error} /> : null}
      <div>
        <Button type="submit" variant="primary" busy={setup.isPending} className="max-md:w-full">
          {t.submit}
        </Button>
      </div>
    </form>
  );
}
