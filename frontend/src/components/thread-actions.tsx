"use client";

import { useState, type FormEvent } from "react";

import { useDeleteThread, useRenameThread } from "@/api/queries/threads";
import type { Thread } from "@/api/types";
import { strings } from "@/lib/strings";
import { errorText } from "./error-state";
import { Button, IconButton } from "./ui/button";
import { ConfirmDialog, Dialog } from "./ui/dialog";
import { IconDelete, IconEdit, IconMore } from "./ui/icon";
import { Field, Input } from "./ui/input";
import { Menu, MenuItem, MenuSeparator } from "./ui/menu";
import { Term, Terms } from "./ui/terms";
import { toast } from "./ui/toast";

const t = strings.threads;

function RenameDialog({ thread, open, onOpenChange }: { thread: Thread; open: boolean; onOpenChange: (open: boolean) => void }) {
  const rename = useRenameThread();
  const [title, setTitle] = useState(thread.title);
  const [tried, setTried] = useState(false);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (!title.trim() || rename.isPending) return;
    rename.mutate({ id: thread.thread_id, title: title.trim() }, { onSuccess: () => onOpenChange(false) });
  };
  const error = tried && !title.trim() ? strings.common.required : rename.isError ? errorText(rename.error) : undefined;
  return (
    <Dialog
      open={open}
      onOpenChange={onOpenChange}
      title={t.renameTitle}
      footer={
        <>
          <Button onClick={() => onOpenChange(false)}>{strings.common.cancel}</Button>
          <Button type="submit" form="rename-thread" variant="primary" busy={rename.isPending}>
            {strings.common.rename}
          </Button>
        </>
      }
    >
      <form id="rename-thread" onSubmit={submit}>
        <Field label={t.name} error={error}>
          {(wiring) => <Input {...wiring} maxLength={300} value={title} onChange={(event) => setTitle(event.target.value)} />}
        </Field>
      </form>
    </Dialog>
  );
}

/** Rename and delete a thread, from a list or from the thread itself. */
export function ThreadActions({ thread, onDeleted }: { thread: Thread; onDeleted?: () => void }) {
  const remove = useDeleteThread();
  const [open, setOpen] = useState<"rename" | "delete">();
  const title = thread.title || t.untitled;
  return (
    <>
      <Menu
        trigger={
          <IconButton variant="ghost" size="s" label={t.actions(title)}>
            <IconMore className="ic-s" aria-hidden="true" />
          </IconButton>
        }
      >
        <MenuItem icon={<IconEdit className="ic-s" aria-hidden="true" />} onSelect={() => setOpen("rename")}>
          {strings.common.rename}
        </MenuItem>
        <MenuSeparator />
        <MenuItem icon={<IconDelete className="ic-s" aria-hidden="true" />} tone="bad" onSelect={() => setOpen("delete")}>
          {t.delete}
        </MenuItem>
      </Menu>
      {open === "rename" ? <RenameDialog thread={thread} open onOpenChange={() => setOpen(undefined)} /> : null}
      <ConfirmDialog
        open={open === "delete"}
        onOpenChange={() => setOpen(undefined)}
        title={t.deleteTitle(title)}
        description={t.deleteText}
        verb={t.deleteVerb}
        onConfirm={async () => {
          await remove.mutateAsync(thread.thread_id);
          toast({ text: t.deleted(title) });
          onDeleted?.();
        }}
      >
        <Terms>
          <Term name={t.one}>{t.number(thread.number)}</Term>
          <Term name={t.agent}>{thread.agent_name}</Term>
        </Terms>
      </ConfirmDialog>
    </>
  );
}
