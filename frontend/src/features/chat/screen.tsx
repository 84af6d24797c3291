"use client";

import dynamic from "next/dynamic";
import Link from "next/link";
import { useRouter } from "next/navigation";
import { useCallback, useMemo, useRef, useState, useSyncExternalStore } from "react";

import { useAgent } from "@/api/queries/agents";
import { isProblem } from "@/api/problem";
import { useRetryRun, useSteps, useStopRun } from "@/api/queries/runs";
import type { Run, Thread } from "@/api/types";
import { ErrorState, errorText } from "@/components/error-state";
import { Frame } from "@/components/shell/frame";
import { RunStatus } from "@/components/status";
import { ThreadActions } from "@/components/thread-actions";
import { StateMark } from "@/components/ui/badge";
import { IconButton } from "@/components/ui/button";
import { Empty } from "@/components/ui/empty";
import { IconBusy, IconPanel, IconPlug } from "@/components/ui/icon";
import { SkeletonRows } from "@/components/ui/skeleton";
import { Term, Terms, Ticks } from "@/components/ui/terms";
import { toast } from "@/components/ui/toast";
import { cn } from "@/lib/cn";
import { count } from "@/lib/format";
import { strings } from "@/lib/strings";
import { useRouteId } from "@/lib/use-route-id";
import "@/styles/chat.css";
import { ApprovalDock } from "./approval-dock";
import { Composer } from "./composer";
import { ContextMeter } from "./context-meter";
import { totalText } from "./cost";
import type { EntryActions } from "./entry-view";
import { lastContext, type Context } from "./journal";
import { NewThread } from "./new-thread";
import { isTerminal } from "./run-state";
import { RunStrip } from "./run-strip";
import { Transcript, type TranscriptHandle } from "./transcript";
import { useReconnected, useSaid } from "./use-said";
import { useThread, type ThreadView } from "./use-thread";

const t = strings.chat;

const FilesSheet = dynamic(() => import("./files-sheet"), { ssr: false });
const FilesPanel = dynamic(() => import("./files-panel"), { ssr: false, loading: () => <SkeletonRows rows={3} /> });

/** The chat. The thread is the one in the address; `new` is one that begins with its first message. */
export function ChatScreen() {
  const id = useRouteId();
  if (id === undefined) return null;
  return id === "new" ? <NewThread /> : <Conversation key={id} threadId={id} />;
}

const wideQuery = "(min-width: 1180px)";

function useWide(): boolean {
  return useSyncExternalStore(
    (listener) => {
      const query = window.matchMedia(wideQuery);
      query.addEventListener("change", listener);
      return () => query.removeEventListener("change", listener);
    },
    () => window.matchMedia(wideQuery).matches,
    () => false,
  );
}

function Conversation({ threadId }: { threadId: string }) {
  const view = useThread(threadId);
  const { thread } = view;
  if (isProblem(thread.error, 404) || isProblem(thread.error, 422)) return <Gone />;
  if (thread.data) return <Open threadId={threadId} thread={thread.data} view={view} />;
  return (
    <Frame title={t.crumb}>
      {thread.error ? (
        <ErrorState error={thread.error} onRetry={() => void thread.refetch()} retrying={thread.isFetching} />
      ) : (
        <SkeletonRows rows={5} />
      )}
    </Frame>
  );
}

function Gone() {
  return (
    <Frame title={t.goneTitle} crumbs={[{ href: "/threads", label: t.crumb }]}>
      <Empty
        title={t.goneTitle}
        action={
          <Link className="btn" href="/threads">
            {t.toThreads}
          </Link>
        }
      >
        {t.goneText}
      </Empty>
    </Frame>
  );
}

/** How the run stands, or that the line to it is broken. */
function Marks({ view, run }: { view: ThreadView; run: Run | undefined }) {
  const { stream } = view.watched;
  const back = useReconnected(stream);
  if (stream === "reconnecting" && run && !isTerminal(run.status)) {
    return <StateMark icon={<IconBusy className="ic-s" aria-hidden="true" />}>{t.state.reconnecting}</StateMark>;
  }
  return (
    <>
      {run ? <RunStatus status={run.status} /> : null}
      {back ? (
        <span className="max-sm:hidden">
          <StateMark icon={<IconPlug className="ic-s" aria-hidden="true" />}>{t.state.reconnected}</StateMark>
        </span>
      ) : null}
    </>
  );
}

function Open({ threadId, thread, view }: { threadId: string; thread: Thread; view: ThreadView }) {
  const router = useRouter();
  const wide = useWide();
  const [files, setFiles] = useState<boolean>();
  const [file, setFile] = useState<string>();
  const filesOpen = files ?? wide;
  const onFile = useCallback((path: string) => {
    setFile(path);
    setFiles(true);
  }, []);
  const run = view.active ?? view.runs[0];
  const toggle = (
    <IconButton size="s" variant="ghost" label={filesOpen ? t.files.close : t.files.open} aria-pressed={filesOpen} onClick={() => setFiles(!filesOpen)}>
      <IconPanel className="ic-s" aria-hidden="true" />
    </IconButton>
  );
  const panel = <Workspace threadId={threadId} thread={thread} run={run} file={file} onFile={setFile} />;
  return (
    <Frame
      title={thread.title || t.untitled}
      crumbs={[{ href: `/agents/${thread.agent_id}`, label: thread.agent_name }]}
      marks={<Marks view={view} run={run} />}
      actions={
        <>
          {toggle}
          <ThreadActions thread={thread} onDeleted={() => router.push("/threads")} />
        </>
      }
      bare
    >
      <main id="page" className={cn("chat", !(filesOpen && wide) && "one")}>
        <Talk threadId={threadId} thread={thread} view={view} run={run} onFile={onFile} />
        {filesOpen && wide ? (
          <aside className="ws" aria-label={t.files.title}>
            <h2 className="ws-title">{t.files.title}</h2>
            {panel}
          </aside>
        ) : null}
      </main>
      {!wide && files !== undefined ? (
        <FilesSheet open={filesOpen} onOpenChange={setFiles}>
          {panel}
        </FilesSheet>
      ) : null}
    </Frame>
  );
}

/** Files above, what the run and the thread took below. */
function Workspace({ threadId, thread, run, file, onFile }: { threadId: string; thread: Thread; run: Run | undefined; file: string | undefined; onFile: (path: string | undefined) => void }) {
  const agent = useAgent(thread.agent_id);
  const limit = agent.data?.config.limits?.max_cost_micro_usd;
  const cost = run && totalText(run);
  const against = limit ? totalText({ cost_micro_usd: limit, cost_known: true }) : undefined;
  const usage = thread.usage;
  return (
    <>
      <FilesPanel threadId={threadId} file={file} onFile={onFile} />
      {run ? (
        <div className="ws-foot">
          <Terms>
            <Term name={t.files.thisRun}>{against && cost ? t.files.limit(cost, against) : cost}</Term>
          </Terms>
          {limit && against && cost && run.cost_known ? (
            <div className="mt-1">
              <Ticks size="s" tone={run.cost_micro_usd > limit ? "over" : "live"} spent={run.cost_micro_usd / limit} label={t.files.limit(cost, against)} />
            </div>
          ) : null}
          <Terms className="mt-1">
            <Term name={t.steps(run.steps)}>{t.tok(count(run.input_tokens + run.output_tokens))}</Term>
            {usage ? <Term name={t.files.threadTotal}>{totalText(usage)}</Term> : null}
          </Terms>
        </div>
      ) : null}
    </>
  );
}

/** What the model was sent last: as it was told while somebody watched, else from the journal of the newest run that has ended. */
function useSentContext({ watched, runs }: ThreadView): Context | null {
  const known = watched.state.context;
  const last = runs.find((run) => isTerminal(run.status));
  const steps = useSteps(last?.run_id ?? "", !known && last !== undefined);
  return known ?? lastContext(steps.data ?? []);
}

function Talk({ threadId, thread, view, run, onFile }: { threadId: string; thread: Thread; view: ThreadView; run: Run | undefined; onFile: (path: string) => void }) {
  const stop = useStopRun();
  const retry = useRetryRun();
  const handle = useRef<TranscriptHandle>(null);
  const [returned, setReturned] = useState<{ text: string }>();
  const { entries, watched, pages, active, again, drop, outgoing } = view;
  const running = active !== undefined;
  const stopping = running && (active.stop_requested || (stop.isPending && stop.variables === active.run_id) || (stop.isSuccess && stop.variables === active.run_id));
  const { mutate: retryRun } = retry;
  const edit = useCallback(
    (messageId: string) => {
      const one = outgoing.find((other) => other.messageId === messageId);
      if (one) setReturned({ text: one.content });
      drop(messageId);
    },
    [outgoing, drop],
  );
  const actions = useMemo<EntryActions>(
    () => ({
      onAgain: again,
      onEdit: edit,
      onRetry: (failed) => retryRun(failed.run_id, { onError: (error) => toast({ text: errorText(error), tone: "bad" }) }),
      onFile,
    }),
    [again, edit, retryRun, onFile],
  );
  const { fetchNextPage } = pages;
  const onOlder = useCallback(() => void fetchNextPage(), [fetchNextPage]);
  const pending = view.approvals.filter((approval) => approval.status === "pending");
  const waiting = pending[0];
  const said = useSaid(run, watched.state);
  const context = useSentContext(view);
  const askStop = useCallback(() => {
    if (active) stop.mutate(active.run_id, { onError: (error) => toast({ text: errorText(error), tone: "bad" }) });
  }, [active, stop]);
  const review = () => {
    if (!waiting) return;
    const entry = entries.find((one) => one.kind === "tool" && one.callId === waiting.call_id);
    if (entry) handle.current?.toKey(entry.key);
    requestAnimationFrame(() => requestAnimationFrame(() => document.getElementById(`approval-${waiting.approval_id}`)?.focus()));
  };
  return (
    <section className="tr">
      {run ? <RunStrip run={run} agent={thread.agent_name} messages={view.messages} approvals={view.approvals} state={watched.state} /> : <span />}
      {pages.error && !pages.data ? (
        <div className="p-4">
          <ErrorState error={pages.error} onRetry={() => void pages.refetch()} retrying={pages.isFetching} />
        </div>
      ) : pages.isPending ? (
        <div className="p-4">
          <SkeletonRows rows={5} />
        </div>
      ) : entries.length === 0 ? (
        <div className="scroll">
          <div className="fresh">
            <Empty title={t.emptyTitle}>{t.emptyText(thread.agent_name)}</Empty>
          </div>
        </div>
      ) : (
        <Transcript
          entries={entries}
          state={watched.state}
          threadNumber={thread.number}
          actions={actions}
          retrying={retry.isPending ? retry.variables : undefined}
          hasOlder={pages.hasNextPage}
          loadingOlder={pages.isFetchingNextPage}
          onOlder={onOlder}
          handle={handle}
        />
      )}
      <div className="dock">
        {waiting ? <ApprovalDock key={waiting.approval_id} approval={waiting} onReview={review} /> : null}
        {context ? <ContextMeter context={context} /> : null}
        <Composer
          draftKey={threadId}
          agent={thread.agent_name}
          running={running}
          stopping={stopping}
          onSend={(message) => {
            view.send(message);
            requestAnimationFrame(() => handle.current?.toEnd());
          }}
          onStop={askStop}
          returned={returned}
        />
      </div>
      <p className="sr-only" role="status" aria-live="polite">
        {said}
      </p>
    </section>
  );
}
