"use client";

import { useRouter } from "next/navigation";
import { useEffect, useState, type FormEvent } from "react";

import { isProblem } from "@/api/problem";
import { useConfig, useLogin } from "@/api/queries/session";
import { ErrorState } from "@/components/error-state";
import { Button } from "@/components/ui/button";
import { Field, Input } from "@/components/ui/input";
import { Welcome } from "@/components/welcome";
import { isEmail, safeNext } from "@/lib/next-url";
import { strings } from "@/lib/strings";
import { useSearchState } from "@/lib/use-search-state";

const t = strings.login;

function refusal(error: unknown): string | undefined {
  if (isProblem(error, 401) || isProblem(error, 403)) return t.wrong;
  if (isProblem(error, 429)) return error.detail ?? t.locked("later");
  return undefined;
}

export function LoginScreen() {
  const router = useRouter();
  const config = useConfig();
  const login = useLogin();
  const [next] = useSearchState("next");
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [tried, setTried] = useState(false);
  const badEmail = tried && !isEmail(email) ? t.badEmail : undefined;
  const noPassword = tried && !password ? strings.common.required : undefined;
  const refused = refusal(login.error);

  useEffect(() => {
    if (config.data?.setup_required) router.replace("/setup");
  }, [config.data?.setup_required, router]);

  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (!isEmail(email) || !password || login.isPending) return;
    login.mutate(
      { email: email.trim(), password },
      // A whole load, so that nothing of an ended session stays in memory.
      { onSuccess: () => window.location.replace(safeNext(next, "/")) },
    );
  };

  return (
    <Welcome title={t.title} text={next ? t.expired : t.text}>
      <form onSubmit={submit} noValidate className="flex max-w-[440px] flex-col gap-4 p-4 md:p-8 md:pt-[88px]">
        <Field label={t.email} error={badEmail}>
          {(wiring) => (
            <Input {...wiring} type="email" autoComplete="username" autoFocus value={email} onChange={(event) => setEmail(event.target.value)} />
          )}
        </Field>
        <Field label={t.password} error={noPassword}>
          {(wiring) => (
            <Input
              {...wiring}
              type="password"
              autoComplete="current-password"
              value={password}
              onChange={(event) => setPassword(event.target.value)}
            />
          )}
        </Field>
        {refused ? (
          <p role="alert" className="small bad">
            {refused}
          </p>
        ) : login.isError ? (
          <ErrorState error={login.error} />
        ) : null}
        <div>
          <Button type="submit" variant="primary" busy={login.isPending} className="max-md:w-full">
            {t.submit}
          </Button>
        </div>
      </form>
    </Welcome>
  );
}
