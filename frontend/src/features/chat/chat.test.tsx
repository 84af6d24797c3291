import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, fireEvent, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import type { ReactNode } from "react";

import { ModelReceiptLine } from "@/components/receipt";
import { Voucher } from "@/components/voucher";
import { Composer } from "./composer";
import { EntryView, type EntryActions } from "./entry-view";
import { buildEntries, type Entry } from "./entries";
import { approval, message, receipt, run, uuid } from "./fixtures";

const actions: EntryActions = { onAgain: vi.fn(), onEdit: vi.fn(), onRetry: vi.fn(), onFile: vi.fn() };
const anthropic = { name: "anthropic/claude", provider: "anthropic", kind: "centralized", title: "Claude" };

let sent: { path: string; body: unknown }[] = [];
let models: unknown[] = [anthropic];

beforeEach(() => {
  sent = [];
  models = [anthropic];
  sessionStorage.clear();
  // jsdom draws nothing, so nothing in it has a size to watch.
  vi.stubGlobal(
    "ResizeObserver",
    class {
      observe = () => undefined;
      unobserve = () => undefined;
      disconnect = () => undefined;
    },
  );
  vi.stubGlobal("fetch", async (request: Request) => {
    const path = new URL(request.url).pathname;
    if (request.method === "POST") sent.push({ path, body: await request.json() });
    if (path === "/api/inference/models") return Response.json(models);
    if (path.endsWith("/decision")) return Response.json(approval({ status: "approved", decided_at: "2026-11-22T14:32:00Z" }));
    return Response.json([]);
  });
});

function show(node: ReactNode) {
  return render(<QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}>{node}</QueryClientProvider>);
}

const view = (entry: Entry) => (
  <EntryView entry={entry} live={undefined} restart={null} routed={null} threadNumber={84} retrying={false} actions={actions} />
);

describe("a receipt", () => {
  it("says a price that nobody knows in words, never as zero", () => {
    render(<ModelReceiptLine no="№ 84.9" receipt={receipt({ cost_micro_usd: null })} />);
    expect(screen.getByText("price unknown")).toBeInTheDocument();
    expect(screen.queryByText(/\$0/)).toBeNull();
  });

  it("tells the demo for what it is", () => {
    render(<ModelReceiptLine receipt={receipt({ kind: "demo", cost_micro_usd: 0 })} />);
    expect(screen.getByText(/DEMO · scripted, no AI · 1,204 tok/)).toBeInTheDocument();
  });

  it("opens into the whole record", async () => {
    const [entry] = buildEntries({ messages: [message({ role: "assistant", seq: 9, receipt: receipt() })], approvals: [], runs: [] });
    show(view(entry!));
    const line = screen.getByRole("button", { name: /№ 84.9/ });
    expect(line).toHaveTextContent("$0.0042 · 3.1 s");
    await userEvent.click(line);
    expect(line).toHaveAttribute("aria-expanded", "true");
    expect(screen.getByText("1,021 tok, 840 from cache")).toBeInTheDocument();
  });
});

describe("a voucher", () => {
  beforeEach(() => vi.useFakeTimers({ now: Date.parse("2026-11-22T14:29:00Z"), shouldAdvanceTime: true }));
  afterEach(() => vi.useRealTimers());

  it("shows the whole act and the exact pattern of Always, and takes no click in its first half second", () => {
    show(<Voucher approval={approval()} />);
    const approve = screen.getByRole("button", { name: /Approve shell/ });
    expect(approve).toBeDisabled();
    fireEvent.click(approve);
    fireEvent.keyDown(screen.getByRole("group"), { key: "a" });
    expect(sent).toEqual([]);
    expect(screen.getByRole("region", { name: "command" })).toHaveTextContent("rm -rf build");
    expect(screen.getByText("command = rm -rf build")).toBeInTheDocument();
    act(() => void vi.advanceTimersByTime(600));
    expect(approve).toBeEnabled();
  });

  it("signs the hash of the act that was shown, by key, and keeps the decision as a stamp", async () => {
    show(<Voucher approval={approval()} />);
    act(() => void vi.advanceTimersByTime(600));
    fireEvent.keyDown(screen.getByRole("group"), { key: "A" });
    await waitFor(() => expect(screen.getByText(/^Approved/)).toBeInTheDocument());
    expect(sent).toEqual([
      { path: `/api/approvals/${uuid(500)}/decision`, body: { decision: "approve", always: false, note: "", act_hash: approval().act_hash } },
    ]);
  });

  it("offers no Always where there is no pattern, and nothing when it has expired", () => {
    show(<Voucher approval={approval({ pattern: null, expires_at: "2026-11-22T14:00:00Z" })} />);
    act(() => void vi.advanceTimersByTime(600));
    expect(screen.queryByRole("button", { name: /Always/ })).toBeNull();
    expect(screen.getByRole("button", { name: /Approve/ })).toBeDisabled();
    expect(screen.getByText("Expired")).toBeInTheDocument();
  });
});

describe("the composer", () => {
  const props = { draftKey: "t", agent: "Meridian", running: false, stopping: false, onSend: vi.fn(), onStop: vi.fn() };
  beforeEach(() => {
    props.onSend.mockClear();
    props.onStop.mockClear();
  });

  it("sends with Enter and makes a line with Shift+Enter", async () => {
    show(<Composer {...props} />);
    const field = screen.getByRole("textbox", { name: "Message" });
    await userEvent.type(field, "one{Shift>}{Enter}{/Shift}two{Enter}");
    expect(props.onSend).toHaveBeenCalledWith({ content: "one\ntwo", model: "", ifBusy: "enqueue" });
    expect(field).toHaveValue("");
  });

  it("keeps what was typed over a reload", async () => {
    const { unmount } = show(<Composer {...props} />);
    await userEvent.type(screen.getByRole("textbox"), "unsent");
    unmount();
    show(<Composer {...props} />);
    expect(screen.getByRole("textbox")).toHaveValue("unsent");
  });

  it("while the agent works lets one queue or interrupt, and stops with Escape", async () => {
    show(<Composer {...props} running />);
    await userEvent.click(screen.getByRole("radio", { name: "Interrupt" }));
    await userEvent.type(screen.getByRole("textbox"), "now{Enter}");
    expect(props.onSend).toHaveBeenCalledWith({ content: "now", model: "", ifBusy: "interrupt" });
    await userEvent.keyboard("{Escape}");
    expect(props.onStop).toHaveBeenCalledTimes(1);
  });

  it("says in words that no model is connected, with the way out", async () => {
    models = [];
    show(<Composer {...props} />);
    expect(await screen.findByText(/No model connected/)).toBeInTheDocument();
    expect(screen.getByRole("link", { name: "Connect one" })).toHaveAttribute("href", "/settings?tab=providers");
    await userEvent.type(screen.getByRole("textbox"), "x{Enter}");
    expect(props.onSend).not.toHaveBeenCalled();
  });

  it("takes back the text of a message that could not be sent", () => {
    const { rerender } = show(<Composer {...props} />);
    rerender(
      <QueryClientProvider client={new QueryClient()}>
        <Composer {...props} returned={{ text: "again" }} />
      </QueryClientProvider>,
    );
    expect(screen.getByRole("textbox")).toHaveValue("again");
  });
});

describe("an entry", () => {
  it("of a failed run says what failed, its request id, and offers Retry", async () => {
    const failed = run({
      status: "failed",
      problem: { type: "about:blank", title: "Anthropic did not answer (529)", status: 502, detail: "Tried three times.", request_id: "req_1", provider: "anthropic", setting: "" },
    });
    const entries = buildEntries({ messages: [message()], approvals: [], runs: [failed] });
    show(view(entries[1]!));
    expect(screen.getByText("Anthropic did not answer (529)")).toBeInTheDocument();
    expect(screen.getByText("req_1")).toBeInTheDocument();
    expect(screen.getByText("provider: anthropic")).toBeInTheDocument();
    await userEvent.click(screen.getByRole("button", { name: "Retry" }));
    expect(actions.onRetry).toHaveBeenCalledWith(failed);
  });

  it("of a message that was not sent keeps its text and offers another try", async () => {
    const outgoing = { messageId: uuid(4), content: "Hello", at: "2026-11-22T14:28:00Z", model: "", ifBusy: "enqueue" as const, error: new Error("The server does not answer") };
    show(view({ kind: "outgoing", key: "m", outgoing }));
    expect(screen.getByText("Hello")).toBeInTheDocument();
    expect(screen.getByRole("alert")).toHaveTextContent("The server does not answer");
    await userEvent.click(screen.getByRole("button", { name: "Send again" }));
    expect(actions.onAgain).toHaveBeenCalledWith(uuid(4));
  });

  it("of a long output shows its beginning and opens to all of it, with the arguments", async () => {
    const messages = [
      message({ role: "assistant", tool_calls: [{ id: "c", name: "read_file", arguments: '{"path":"a.md"}' }] }),
      message({ message_id: uuid(3), seq: 3, role: "tool", tool_call_id: "c", tool_name: "read_file", content: Array.from({ length: 40 }, (_, at) => `line ${at + 1}`).join("\n"), receipt: receipt({ truncated: true, log_path: "logs/a.log" }) }),
    ];
    const entry = buildEntries({ messages, approvals: [], runs: [] })[1]!;
    show(view(entry));
    expect(screen.queryByText(/line 40/)).toBeNull();
    await userEvent.click(screen.getByRole("button", { name: "Show all 40 lines" }));
    expect(screen.getByRole("region", { name: "Output" })).toHaveTextContent("line 40");
    expect(screen.getByRole("region", { name: "path" })).toHaveTextContent("a.md");
    await userEvent.click(screen.getByRole("button", { name: "Open the whole log" }));
    expect(actions.onFile).toHaveBeenCalledWith("logs/a.log");
  });
});
