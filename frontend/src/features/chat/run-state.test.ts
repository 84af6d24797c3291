import type { PlacedEvent, RunEvent } from "@/api/run-events";
import type { Approval, Message, Step } from "@/api/types";
import { approval, message, placed, receipt, run, step, uuid } from "./fixtures";
import { applyEvent, applyEvents, emptyRun, outputLimit, type RunState } from "./run-state";

/** Numbers from a seed, so that a failure can be run again. */
function dice(seed: number): (sides: number) => number {
  let state = seed >>> 0;
  return (sides) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * sides);
  };
}

/** A server that runs an agent: it writes the log of the present generation and knows its own truth, by other means than the reducer. */
class Server {
  generation = 1;
  log: PlacedEvent[] = [];
  private messages: Message[] = [message({ seq: 1 })];
  private steps: Step[] = [];
  private approvals: Approval[] = [];
  private writing: { message_id: string; content: string; reasoning: string; tool_calls: { index: number; id: string; name: string; arguments: string }[] } | null = null;
  private outputs: Record<string, string> = {};
  private status: "running" | "waiting_approval" | "completed" = "running";

  constructor() {
    this.open();
  }

  private open(): void {
    this.log = [];
    this.tell({
      type: "stream.snapshot",
      run: run({ status: this.status }),
      messages: structuredClone(this.messages),
      steps: structuredClone(this.steps),
      approvals: structuredClone(this.approvals),
      partial: structuredClone(this.writing),
      outputs: { ...this.outputs },
    });
  }

  /** Another worker or a lost log: the stream begins again. */
  takeOver(): void {
    this.generation += 1;
    this.open();
  }

  private tell(event: RunEvent): void {
    this.log.push(placed(`${this.generation}-${this.log.length + 1}`, event));
  }

  /** What a reader is sent who last saw `id`. */
  since(id: string): PlacedEvent[] {
    const at = this.log.findIndex((one) => one.id === id);
    return this.log.slice(at + 1);
  }

  begin(n: number): void {
    this.writing = { message_id: uuid(n), content: "", reasoning: "", tool_calls: [] };
    this.tell({ type: "message.started", message_id: uuid(n), at: "2026-11-22T14:29:00Z" });
  }

  say(text: string): void {
    this.writing!.content += text;
    this.tell({ type: "message.delta", text });
  }

  think(text: string): void {
    this.writing!.reasoning += text;
    this.tell({ type: "reasoning.delta", text });
  }

  restart(): void {
    const id = this.writing!.message_id;
    this.writing = { message_id: id, content: "", reasoning: "", tool_calls: [] };
    this.tell({ type: "message.restarted", message_id: id, reason: "The provider hung up", retry_in_ms: 200 });
  }

  call(index: number, id: string, text: string): void {
    const known = this.writing!.tool_calls.find((one) => one.index === index);
    if (known) known.arguments += text;
    else this.writing!.tool_calls.push({ index, id, name: "shell", arguments: text });
    this.tell({ type: "tool.arguments_delta", index, id: known ? "" : id, name: known ? "" : "shell", text });
  }

  complete(): void {
    const { message_id, content, reasoning, tool_calls } = this.writing!;
    const whole = message({
      message_id,
      content,
      reasoning,
      role: "assistant",
      seq: this.messages.length + 1,
      tool_calls: tool_calls.map(({ id, name, arguments: text }) => ({ id, name, arguments: text })),
      receipt: receipt(),
    });
    this.writing = null;
    this.messages.push(whole);
    this.tell({ type: "message.completed", message: structuredClone(whole) });
  }

  ask(id: string): void {
    const asked = approval({ approval_id: uuid(500 + this.approvals.length), call_id: id });
    this.approvals.push(asked);
    this.status = "waiting_approval";
    this.tell({ type: "approval.requested", approval: structuredClone(asked) });
  }

  decide(status: "approved" | "denied"): void {
    const last = this.approvals.at(-1)!;
    last.status = status;
    this.status = "running";
    this.tell({ type: "approval.decided", approval: structuredClone(last) });
  }

  run(id: string): void {
    this.outputs[id] = "";
    this.steps.push(step({ step_id: uuid(600 + this.steps.length), call_id: id }));
    this.tell({ type: "tool.called", call_id: id, name: "shell", effect: "once", at: step().started_at! });
  }

  print(id: string, text: string): void {
    this.outputs[id] = (this.outputs[id] ?? "") + text;
    this.tell({ type: "tool.output", call_id: id, text });
  }

  returns(id: string): void {
    const whole = message({
      message_id: uuid(300 + this.messages.length),
      role: "tool",
      tool_call_id: id,
      tool_name: "shell",
      seq: this.messages.length + 1,
      content: this.outputs[id] ?? "",
    });
    delete this.outputs[id];
    this.steps.find((one) => one.call_id === id)!.status = "done";
    this.messages.push(whole);
    this.tell({ type: "tool.returned", call_id: id, status: "ok", message: structuredClone(whole) });
  }

  finish(): void {
    this.status = "completed";
    this.tell({ type: "run.finished", status: "completed", problem: null, title: "A title" });
  }
}

/** A run as a list of single acts, so that a cut can stand between any two. */
function acts(roll: (sides: number) => number): ((server: Server) => void)[] {
  const list: ((server: Server) => void)[] = [];
  let calls = 0;
  const write = (n: number, tools: string[]) => {
    list.push((server) => server.begin(n));
    for (let at = roll(3); at > 0; at--) list.push((server) => server.think(`hm ${at} `));
    for (let at = 1 + roll(6); at > 0; at--) list.push((server) => server.say(`word${at} `));
    if (roll(3) === 0) {
      list.push((server) => server.restart());
      list.push((server) => server.say("again "));
    }
    tools.forEach((id, index) => {
      list.push((server) => server.call(index, id, '{"command":'));
      list.push((server) => server.call(index, id, `"echo ${id}"}`));
    });
    list.push((server) => server.complete());
  };
  for (let turn = 0; turn < 1 + roll(3); turn++) {
    const tools = Array.from({ length: 1 + roll(2) }, () => `call-${++calls}`);
    write(100 + turn, tools);
    for (const id of tools) {
      if (roll(2) === 0) {
        const answer = roll(2) === 0 ? "approved" : "denied";
        list.push((server) => server.ask(id));
        list.push((server) => server.decide(answer));
      }
      list.push((server) => server.run(id));
      for (let at = roll(4); at > 0; at--) list.push((server) => server.print(id, `line ${at}\n`));
      list.push((server) => server.returns(id));
    }
  }
  write(199, []);
  list.push((server) => server.finish());
  return list;
}

/** What a person sees of a run; the rest is how it came there. */
const seen = ({ messages, approvals, partial, tools, run: row }: RunState) => ({
  messages,
  approvals,
  partial: partial && { ...partial, at: null },
  tools,
  status: row?.status,
});

describe("a watched run", () => {
  it("ends in the same state however often the stream is cut, resumed, told twice or taken over", () => {
    for (let seed = 1; seed <= 300; seed++) {
      const roll = dice(seed);
      const [calm, cut] = [new Server(), new Server()];
      let reader = emptyRun;
      let last = "";
      const catchUp = () => {
        const events = cut.since(last);
        const upTo = roll(events.length + 1);
        reader = applyEvents(reader, events.slice(0, upTo));
        if (upTo > 0) last = events[upTo - 1]!.id;
      };
      for (const act of acts(dice(seed))) {
        act(calm);
        act(cut);
        switch (roll(6)) {
          case 0:
            cut.takeOver();
            break;
          case 1:
            catchUp();
            break;
          case 2:
            reader = applyEvents(reader, cut.log.slice(0, cut.log.findIndex((one) => one.id === last) + 1));
            break;
          default:
            break;
        }
        if (last && cut.since(last).length === 0) {
          expect(seen(reader), `seed ${seed}`).toEqual(seen(applyEvents(emptyRun, calm.log)));
        }
      }
      reader = applyEvents(reader, cut.since(last));
      expect(seen(reader), `seed ${seed}`).toEqual(seen(applyEvents(emptyRun, calm.log)));
      expect(reader.finished).toBe(true);
    }
  });

  const opened = applyEvent(emptyRun, placed("2-1", { type: "stream.snapshot", run: run(), messages: [], steps: [], approvals: [] }));

  it("counts an event once", () => {
    const begun = applyEvent(opened, placed("2-2", { type: "message.started", message_id: uuid(5), at: "2026-11-22T14:29:00Z" }));
    const said = placed("2-3", { type: "message.delta", text: "Hello" });
    expect(applyEvents(begun, [said, said, said]).partial?.content).toBe("Hello");
  });

  it("takes nothing from an older generation, nor from one that has not opened", () => {
    const late = placed("1-9", { type: "stream.snapshot", run: run({ status: "queued" }), messages: [], steps: [], approvals: [] });
    expect(applyEvent(opened, late)).toBe(opened);
    expect(applyEvent(opened, placed("3-7", { type: "run.finished", status: "failed", problem: null }))).toBe(opened);
  });

  it("is replaced, not added to, by a snapshot", () => {
    const begun = applyEvents(opened, [
      placed("2-2", { type: "message.started", message_id: uuid(5), at: "2026-11-22T14:29:00Z" }),
      placed("2-3", { type: "message.delta", text: "Hello" }),
    ]);
    const anew = applyEvent(
      begun,
      placed("3-1", {
        type: "stream.snapshot",
        run: run(),
        messages: [],
        steps: [],
        approvals: [],
        partial: { message_id: uuid(5), content: "Hel", reasoning: "", tool_calls: [] },
      }),
    );
    expect(anew.partial?.content).toBe("Hel");
  });

  it("knows after a reload which calls run and which wait their turn", () => {
    const calls = ["prints", "silent", "waits", "back"].map((id) => ({ id, name: "read_file", arguments: "{}" }));
    const { tools } = applyEvent(
      emptyRun,
      placed("1-1", {
        type: "stream.snapshot",
        run: run(),
        messages: [message({ role: "assistant", tool_calls: calls }), message({ message_id: uuid(2), role: "tool", tool_call_id: "back", tool_name: "read_file" })],
        steps: calls.map(({ id, name }, at) => step({ step_id: uuid(600 + at), call_id: id, name, effect: "read", status: "planned", started_at: null })),
        approvals: [],
        outputs: { prints: "line 1", silent: "" },
      }),
    );
    const running = { name: "read_file", effect: "read", at: null, progress: "" };
    expect(tools).toEqual({ prints: { ...running, output: "line 1" }, silent: { ...running, output: "" } });
  });

  it("keeps the tail of what a tool prints", () => {
    const running = applyEvents(opened, [
      placed("2-2", { type: "tool.called", call_id: "c", name: "shell", effect: "once", at: "2026-11-22T14:29:00Z" }),
      placed("2-3", { type: "tool.output", call_id: "c", text: "x".repeat(outputLimit) }),
      placed("2-4", { type: "tool.output", call_id: "c", text: "end" }),
    ]);
    expect(running.tools.c?.output).toHaveLength(outputLimit);
    expect(running.tools.c?.output.endsWith("xend")).toBe(true);
  });

  it("ignores what it does not know", () => {
    const next = applyEvent(opened, placed("2-2", { type: "weather.changed" } as unknown as RunEvent));
    expect({ ...next, cursor: null }).toEqual({ ...opened, cursor: null });
  });
});
