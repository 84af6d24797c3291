import { withNewest, type MessagePages } from "@/api/queries/runs";
import { buildEntries, headline, mergeMessages, toolState, writingEntries, type ToolEntry } from "./entries";
import { approval, message, receipt, run, uuid } from "./fixtures";
import { draw, stripOf } from "./strip-model";
import { runToWatch } from "./use-thread";

const user = message({ message_id: uuid(1), seq: 1 });
const call = message({
  message_id: uuid(2),
  seq: 2,
  role: "assistant",
  content: "",
  tool_calls: [{ id: "call-1", name: "shell", arguments: '{"command":"ls"}' }],
  receipt: receipt(),
});
const result = message({ message_id: uuid(3), seq: 3, role: "tool", tool_call_id: "call-1", tool_name: "shell", content: "a.txt", receipt: receipt() });

const kinds = (rows: Parameters<typeof buildEntries>[0]) => buildEntries(rows).map((entry) => entry.kind);
const tool = (change: Partial<ToolEntry> = {}): ToolEntry => ({
  kind: "tool",
  key: "t",
  callId: "call-1",
  name: "shell",
  arguments: "{}",
  streaming: false,
  asked: null,
  ...change,
});

describe("entries of a thread", () => {
  it("join a result to its call", () => {
    const entries = buildEntries({ messages: [user, call, result], approvals: [], runs: [] });
    expect(entries.map((entry) => entry.kind)).toEqual(["user", "answer", "tool"]);
    expect(entries[2]).toMatchObject({ name: "shell", result: { content: "a.txt" } });
  });

  it("keep a result whose call lies on a page not read yet", () => {
    expect(kinds({ messages: [result], approvals: [], runs: [] })).toEqual(["tool"]);
  });

  it("have the same keys while an answer is written and when it is saved", () => {
    const writing = writingEntries({ messageId: uuid(2), at: null, content: "", reasoning: "", calls: [{ index: 0, id: "call-1", name: "shell", arguments: "{" }] });
    const saved = buildEntries({ messages: [call], approvals: [], runs: [] });
    expect(saved.map((entry) => entry.key)).toEqual(writing.map((entry) => entry.key));
  });

  it("end a run that failed after its last message, its results included", () => {
    const failed = run({ status: "failed", input_message_id: uuid(1) });
    const next = message({ message_id: uuid(4), seq: 4 });
    expect(kinds({ messages: [user, call, result, next], approvals: [], runs: [failed] })).toEqual(["user", "answer", "tool", "end", "user"]);
    expect(kinds({ messages: [user, next], approvals: [], runs: [failed] })).toEqual(["user", "end", "user"]);
  });

  it("offer no second Retry for a run that was tried again", () => {
    const failed = run({ run_id: uuid(801), status: "failed" });
    const again = run({ run_id: uuid(802), status: "failed", retry_of: uuid(801) });
    const ends = buildEntries({ messages: [user], approvals: [], runs: [again, failed] }).filter((entry) => entry.kind === "end");
    expect(ends.map((entry) => entry.retried)).toEqual([true, false]);
  });

  it("know the place of a message that waits its turn", () => {
    const waiting = message({ message_id: uuid(9), seq: null, run_id: null });
    const queued = run({ run_id: uuid(803), status: "queued", input_message_id: uuid(9), place: 1 });
    const entries = buildEntries({ messages: mergeMessages([waiting, user]), approvals: [], runs: [queued] });
    expect(entries.at(-1)).toMatchObject({ kind: "user", queued: { place: 1 } });
  });
});

describe("a tool call", () => {
  it("goes through its seven states", () => {
    expect(toolState(tool({ streaming: true }))).toBe("input-streaming");
    expect(toolState(tool())).toBe("input-available");
    expect(toolState(tool({ approval: approval() }))).toBe("approval-requested");
    expect(toolState(tool({ approval: approval({ status: "approved" }) }))).toBe("approval-responded");
    expect(toolState(tool({ result }))).toBe("output-available");
    expect(toolState(tool({ result: { ...result, status: "timeout" } }))).toBe("output-error");
    expect(toolState(tool({ result: { ...result, status: "denied" } }))).toBe("output-denied");
  });

  it("is told by the argument that says most, finished or not", () => {
    expect(headline('{"path":"a.txt","content":"long"}')).toBe("a.txt");
    expect(headline('{"command":"npm test\\nnpm run build"}')).toBe("npm test");
    expect(headline('{"command":"echo \\"hi')).toBe('echo "hi');
    expect(headline('{"other":3}')).toBe("other 3");
    expect(headline("")).toBe("");
  });
});

describe("the run to watch", () => {
  it("is the one at work, else the oldest that waits", () => {
    const [first, second] = [run({ run_id: uuid(1), status: "queued" }), run({ run_id: uuid(2), status: "queued" })];
    expect(runToWatch([second, first])?.run_id).toBe(first.run_id);
    expect(runToWatch([second, run({ run_id: uuid(3) })])?.run_id).toBe(uuid(3));
    expect(runToWatch([run({ status: "completed" })])).toBeUndefined();
  });
});

describe("the newest page", () => {
  const page = (from: number, to: number, next: number | null = from > 1 ? from : null, branch = 0) => ({
    branch,
    items: Array.from({ length: to - from + 1 }, (_, at) => ({ ...message({ message_id: uuid(from + at), seq: from + at }), branch, position: 0 })),
    next_before_seq: next,
  });
  const seqs = (pages: MessagePages) => pages.pages.toReversed().flatMap((one) => one.items.map((item) => item.seq));
  const known: MessagePages = { pages: [page(11, 20), page(1, 10)], pageParams: [null, 11] };

  it("joins what is known without a gap or a double", () => {
    const joined = withNewest(known, page(15, 24));
    expect(seqs(joined)).toEqual(Array.from({ length: 24 }, (_, at) => at + 1));
    expect(joined.pages.at(-1)?.next_before_seq).toBeNull();
  });

  it("forgets what is known of another branch", () => {
    const other = page(15, 24, 15, 1);
    expect(withNewest(known, other).pages).toEqual([other]);
  });

  it("takes away what was discarded", () => {
    expect(seqs(withNewest(known, page(12, 18)))).toEqual(Array.from({ length: 18 }, (_, at) => at + 1));
  });

  it("stands alone when so much is new that something would be missing", () => {
    const alone = withNewest(known, page(40, 50));
    expect(seqs(alone)[0]).toBe(40);
    expect(alone.pages.at(-1)?.next_before_seq).toBe(40);
  });
});

describe("the run strip", () => {
  const at = (seconds: number) => new Date(Date.parse("2026-11-22T14:28:00Z") + seconds * 1000).toISOString();
  const answer = { ...call, created_at: at(2), receipt: receipt({ duration_ms: 2000 }) };
  const done = { ...result, created_at: at(4), receipt: receipt({ duration_ms: 1000 }) };
  const waited = approval({ created_at: at(4), decided_at: at(3604), status: "approved" });

  it("is read from what the run wrote and waited for", () => {
    const strip = stripOf(run({ status: "completed", finished_at: at(3604) }), [answer, done], [waited], undefined, (name) => name === "shell", 0);
    expect(strip.segments.map((segment) => segment.kind)).toEqual(["model", "change", "wait"]);
    expect(strip.live).toBe(false);
  });

  it("presses a long wait together so that work stays to be seen", () => {
    const drawn = draw(stripOf(run({ status: "completed", finished_at: at(3604) }), [answer, done], [waited], undefined, () => true, 0));
    const [model, , wait] = drawn;
    expect(model!.width).toBeGreaterThan(25);
    expect(wait!.width).toBeLessThan(45);
    expect(drawn.every((segment) => segment.left >= 0 && segment.left + segment.width <= 100.01)).toBe(true);
  });

  it("grows to now while the run lives", () => {
    const strip = stripOf(run({ status: "waiting_approval" }), [answer], [approval({ created_at: at(4) })], undefined, () => true, Date.parse(at(60)));
    expect(strip.end).toBe(Date.parse(at(60)));
    expect(strip.segments.at(-1)?.end).toBeNull();
  });
});
