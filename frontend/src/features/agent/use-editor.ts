"use client";

import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";

import { isProblem } from "@/api/problem";
import { agentKeys, checkYaml, readDraft, useSaveDraft, type TaggedDraft } from "@/api/queries/agents";
import type { AgentConfig, YamlError } from "@/api/types";
import { useYamlCheck } from "@/components/use-yaml-check";
import { strings } from "@/lib/strings";
import { equal } from "./model";

/** What was changed and not saved. `yaml` is there while the text leads; `etag` is the draft it began from. */
interface Edit {
  config: AgentConfig;
  yaml?: string;
  etag: string;
}

export interface Conflict {
  theirs: TaggedDraft;
}

/** One draft, edited as a form or as YAML. Whatever is not saved survives Back, and no save overwrites somebody else's. */
export function useEditor(id: string, saved: TaggedDraft) {
  const cache = useQueryClient();
  const key = useMemo(() => [...agentKeys.one(id), "unsaved"], [id]);
  const [edit, setEdit] = useState<Edit | undefined>(() => cache.getQueryData<Edit | null>(key) ?? undefined);
  const [conflict, setConflict] = useState<Conflict>();
  const latest = useRef(edit);
  useEffect(() => {
    latest.current = edit;
    cache.setQueryDefaults(key, { gcTime: Infinity });
    cache.setQueryData<Edit | null>(key, edit ?? null);
  }, [cache, key, edit]);

  const save = useSaveDraft(id);
  const check = useYamlCheck(edit?.yaml);
  const errors: readonly YamlError[] = check?.state === "known" ? check.check.errors : [];

  // A YAML that reads is what the form shows.
  const read = check?.state === "known" ? check.check.config : null;
  useEffect(() => {
    if (read) setEdit((now) => (now?.yaml === undefined ? now : { ...now, config: read }));
  }, [read]);

  const config = edit?.config ?? saved.value.config;
  const dirty =
    edit !== undefined && (edit.yaml === undefined ? !equal(edit.config, saved.value.config) : edit.yaml !== saved.value.yaml);

  const change = useCallback(
    (next: AgentConfig) => setEdit((now) => ({ config: next, etag: now?.etag ?? saved.etag })),
    [saved.etag],
  );
  const changeYaml = useCallback(
    (yaml: string) => setEdit((now) => ({ config: now?.config ?? saved.value.config, yaml, etag: now?.etag ?? saved.etag })),
    [saved],
  );

  /** The YAML of what the form says. JSON is YAML too, so the server's normaliser writes it. */
  const showYaml = async () => {
    const now = latest.current;
    if (!now || now.yaml !== undefined) return;
    const { yaml, errors: wrong } = await checkYaml(JSON.stringify({ agent: withoutNulls(now.config) }));
    if (yaml == null) throw new Error(wrong.map((one) => one.message).join(" ") || strings.common.unknownError);
    setEdit((same) => (same === now ? { ...now, yaml } : same));
  };

  /** Answers whether it is saved. A draft that changed meanwhile becomes a conflict to decide, nothing is lost. */
  const store = async (etag?: string): Promise<boolean> => {
    const sent = latest.current;
    if (!sent) return true;
    const content = sent.yaml === undefined ? { config: sent.config } : { yaml: sent.yaml };
    try {
      await save.mutateAsync({ content, etag: etag ?? sent.etag });
    } catch (error) {
      if (!isProblem(error, 412)) return false;
      setConflict({ theirs: await readDraft(id) });
      return false;
    }
    setConflict(undefined);
    setEdit((now) => (now === sent ? undefined : now && { ...now, etag: cache.getQueryData<TaggedDraft>(agentKeys.draft(id))?.etag ?? now.etag }));
    return true;
  };

  const takeTheirs = () => {
    if (conflict) cache.setQueryData(agentKeys.draft(id), conflict.theirs);
    setEdit(undefined);
    setConflict(undefined);
  };

  const stale = save.error && !isProblem(save.error, 412) ? save.error : undefined;
  return {
    config,
    yaml: edit?.yaml ?? saved.value.yaml,
    yamlLeads: edit?.yaml !== undefined,
    /** The form changed and its YAML has not been written yet. */
    yamlBehind: edit !== undefined && edit.yaml === undefined,
    check,
    errors: errors.length > 0 ? errors : yamlErrors(stale),
    dirty,
    saving: save.isPending,
    failure: stale,
    conflict,
    change,
    changeYaml,
    showYaml,
    store,
    keepMine: () => store(conflict?.theirs.etag),
    takeTheirs,
    closeConflict: () => setConflict(undefined),
    forget: () => setEdit(undefined),
  };
}

export type Editor = ReturnType<typeof useEditor>;

function yamlErrors(error: unknown): readonly YamlError[] {
  if (!isProblem(error, 422)) return [];
  return error.errors.flatMap((one) =>
    one.line == null ? [] : [{ line: one.line, column: one.column ?? 1, loc: Array.isArray(one.loc) ? one.loc.join(".") : (one.loc ?? ""), message: one.message }],
  );
}

function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, one]) => one !== null && one !== undefined)
      .map(([name, one]) => [name, withoutNulls(one)]),
  );
}
