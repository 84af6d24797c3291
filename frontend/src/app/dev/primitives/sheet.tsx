"use client";

import { useState, type ReactNode } from "react";

import { Problem } from "@/api/problem";
import { Arguments } from "@/components/arguments";
import { ErrorState } from "@/components/error-state";
import { RunStatus } from "@/components/status";
import { ThemeSeg } from "@/components/theme-menu";
import { Avatar } from "@/components/ui/avatar";
import { Badge, Stamp } from "@/components/ui/badge";
import { Button, IconButton } from "@/components/ui/button";
import { CopyButton, CopyRef } from "@/components/ui/copy";
import { ConfirmDialog } from "@/components/ui/dialog";
import { Empty } from "@/components/ui/empty";
import { IconAdd, IconAttach, IconClose, IconCopy, IconDelete, IconDone, IconKey, IconMore, IconQueued, IconStop } from "@/components/ui/icon";
import { Field, Input, InputGroup, ReadOnly, Textarea } from "@/components/ui/input";
import { Kbd } from "@/components/ui/kbd";
import { Kind } from "@/components/ui/kind";
import { Menu, MenuItem, MenuSeparator } from "@/components/ui/menu";
import { PermissionSeg, Seg, type Permission } from "@/components/ui/seg";
import { Select } from "@/components/ui/select";
import { Skeleton } from "@/components/ui/skeleton";
import { Switch } from "@/components/ui/switch";
import { Tabs } from "@/components/ui/tabs";
import { SectionHead, Term, Terms, Ticks } from "@/components/ui/terms";
import { toast } from "@/components/ui/toast";
import { Tooltip } from "@/components/ui/tooltip";

const colours = ["bg", "surface", "sunk", "line", "control", "muted", "ink-2", "ink", "accent", "accent-wash", "warn", "warn-ink", "warn-wash", "danger", "danger-wash", "rule"];

function Part({ title, wide, children }: { title: string; wide?: boolean; children: ReactNode }) {
  return (
    <section className={wide ? "md:col-span-2" : undefined}>
      <SectionHead title={title} />
      <div className="col gap-3 pt-3.5">{children}</div>
    </section>
  );
}

const variants = ["primary", "secondary", "ghost", "danger", "danger-solid"] as const;

function Controls() {
  const [permission, setPermission] = useState<Permission>("ask");
  const [span, setSpan] = useState<"day" | "week" | "month">("week");
  const [on, setOn] = useState(true);
  const [choice, setChoice] = useState("balanced");
  return (
    <Part title="Inputs">
      <div className="grid gap-3 sm:grid-cols-2">
        <Field label="Name" hint="A hint stands below.">
          {(wiring) => <Input {...wiring} placeholder="What shall it be called?" />}
        </Field>
        <Field label="Daily limit" aside="per day">
          {(wiring) => <InputGroup {...wiring} mono defaultValue="10.00" after={<span className="muted">USDC</span>} />}
        </Field>
        <Field label="OpenRouter key" error="Key rejected (401).">
          {(wiring) => <Input {...wiring} className="mono" defaultValue="sk-ant-…4f2a" />}
        </Field>
        <div className="field">
          <span className="lab">Anthropic key</span>
          <ReadOnly aside={<IconKey className="ic-s" />}>…4f2a</ReadOnly>
        </div>
        <Field label="Model">
          {(wiring) => (
            <Select
              {...wiring}
              value={choice}
              onChange={setChoice}
              placeholder="Pick one"
              groups={[{ heading: "Strategies", options: [{ value: "balanced", label: "Balanced" }, { value: "cheap", label: "Cheapest" }] }]}
            />
          )}
        </Field>
        <Field label="Webhook">{(wiring) => <Input {...wiring} disabled value="Needs a public address" readOnly />}</Field>
      </div>
      <Field label="Instructions">{(wiring) => <Textarea {...wiring} rows={2} defaultValue="State what you could not find." />}</Field>
      <div className="row flex-wrap gap-3">
        <Switch label="A switch" checked={on} onChange={setOn} />
        <Switch label="A switch that is off" checked={false} onChange={() => undefined} disabled />
        <PermissionSeg label="Permission" value={permission} onChange={setPermission} />
        <Seg label="Span" value={span} onChange={setSpan} options={[{ value: "day", label: "Day" }, { value: "week", label: "Week" }, { value: "month", label: "Month" }]} />
      </div>
    </Part>
  );
}

function Floating() {
  const [open, setOpen] = useState(false);
  const [tab, setTab] = useState<"all" | "open">("all");
  return (
    <Part title="Dialog, menu, toast, tabs">
      <div className="row flex-wrap">
        <Button onClick={() => setOpen(true)}>Freeze…</Button>
        <Menu trigger={<IconButton label="More"><IconMore className="ic-s" /></IconButton>}>
          <MenuItem icon={<IconCopy className="ic-s" />} aside={<Kbd>C</Kbd>}>Copy as Markdown</MenuItem>
          <MenuSeparator />
          <MenuItem icon={<IconDelete className="ic-s" />} tone="bad">Delete thread…</MenuItem>
        </Menu>
        <Button onClick={() => toast({ text: "Forgot 1 fact", action: { label: "Undo", run: () => undefined } })}>Toast</Button>
        <Button onClick={() => toast({ text: "Not sent: over the daily limit by 0.12", tone: "bad" })}>Bad toast</Button>
        <Tooltip text="Says more on hover and focus"><Button variant="ghost">Tooltip</Button></Tooltip>
        <CopyButton text="copied text" />
        <CopyRef text="req_01J8ZK3F7Qx2" />
      </div>
      <Tabs label="Tabs" value={tab} onChange={setTab} tabs={[{ value: "all", label: "All", content: <p className="small pt-3">All rows</p> }, { value: "open", label: "Open 2", content: <p className="small pt-3">Two rows</p> }]} />
      <ConfirmDialog open={open} onOpenChange={setOpen} title="Freeze Meridian’s wallet?" description="Nothing can leave it until you unfreeze." verb="Freeze" cancel="Keep open" onConfirm={async () => undefined}>
        <Terms>
          <Term name="Stays inside">41.20 USDC</Term>
          <Term name="Denied">2.50 USDC to tenderwire.io</Term>
        </Terms>
      </ConfirmDialog>
    </Part>
  );
}

/** Every primitive and its states on one sheet; in development only. */
export function Primitives() {
  return (
    <main className="mx-auto grid h-dvh max-w-[1216px] content-start gap-x-10 gap-y-9 overflow-auto p-8 max-sm:p-4 md:grid-cols-2">
      <header className="row md:col-span-2">
        <h1 className="grow">Ledger, the parts</h1>
        <ThemeSeg />
      </header>
      <Part title="Colour" wide>
        <div className="grid grid-cols-4 gap-3 sm:grid-cols-8">
          {colours.map((name) => (
            <div key={name} className="mono-s">
              <div className="mb-1 h-9 rounded-control border border-line" style={{ background: `var(--${name})` }} />
              {name}
            </div>
          ))}
        </div>
      </Part>
      <Part title="Buttons">
        {variants.map((variant) => (
          <div key={variant} className="row flex-wrap" data-variant={variant}>
            <Button variant={variant}>Publish</Button>
            <Button variant={variant} className="is-hover">Publish</Button>
            <Button variant={variant} className="is-focus">Publish</Button>
            <Button variant={variant} disabled>Publish</Button>
            <Button variant={variant} busy>Publishing</Button>
          </div>
        ))}
        <div className="row flex-wrap">
          <Button variant="primary">Approve 2.50 USDC<Kbd>A</Kbd></Button>
          <Button size="s">Small</Button>
          <IconButton label="Attach"><IconAttach className="ic" /></IconButton>
          <IconButton label="Stop" size="s"><IconStop className="ic-s" /></IconButton>
        </div>
      </Part>
      <Controls />
      <Part title="Marks">
        <div className="row flex-wrap gap-4"><Kind kind="centralized" /><Kind kind="decentralized" /><Kind kind="local" /><Kind kind="demo" /></div>
        <div className="row flex-wrap">
          <Badge tone="warn" look="net">TESTNET</Badge><Badge look="net">BASE</Badge><Badge>v14 → draft</Badge><Badge tone="live">In use</Badge><Badge tone="warn">asks first</Badge>
          <Badge tone="bad"><IconKey className="ic-s" />no key</Badge><Badge look="demo">DEMO</Badge>
        </div>
        <div className="row flex-wrap gap-4">
          {(["completed", "running", "queued", "waiting_approval", "failed", "stopped", "timed_out"] as const).map((status) => <RunStatus key={status} status={status} />)}
        </div>
        <div className="row flex-wrap">
          <Stamp icon={<IconDone className="ic-s" />}>Approved by Mara 14:32</Stamp>
          <Stamp tone="bad" icon={<IconClose className="ic-s" />}>Denied 14:32</Stamp>
          <Stamp tone="quiet" icon={<IconQueued className="ic-s" />}>Expired 15:01</Stamp>
        </div>
        <div className="row"><Avatar name="Mara Lindqvist" /><Avatar name="Meridian" shape="square" size="l" /></div>
      </Part>
      <Part title="Terms and ticks">
        <Terms><Term name="Read">1,021 tok, 840 from cache</Term><Term name="Wrote">183 tok</Term><Term name="Cost" total>$0.0042</Term></Terms>
        <Ticks spent={0.04} held={0.25} label="0.40 and 2.50 held of 10.00" />
        <Ticks spent={0.58} tone="live" size="s" label="7 of 12" />
        <Ticks spent={1} tone="over" size="s" label="10.04 of 10.00" />
        <Arguments value={{ command: "python median.py awards.parquet", timeout_seconds: 120 }} />
      </Part>
      <Part title="Empty, loading, error">
        <Empty title="No triggers yet" action={<Button><IconAdd className="ic-s" />Add a trigger</Button>}>A trigger wakes an agent on a clock, a webhook or an event.</Empty>
        <div className="row"><Skeleton className="w-[46px]" /><Skeleton className="grow" /><Skeleton className="w-16" /></div>
        <ErrorState error={new Problem(529, "Anthropic did not answer", "Tried three times in 11 s. Nothing was paid.", { requestId: "req_01J8ZK3F7Qx2" })} onRetry={() => undefined} />
      </Part>
      <Floating />
    </main>
  );
}
