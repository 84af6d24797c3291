import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, fireEvent, render, screen, waitFor } from "@testing-library/react";

import type { Approval } from "@/api/types";
import { Voucher } from "./voucher";

const now = Date.parse("2026-11-17T14:00:00Z");
const approval: Approval = {
  approval_id: "p",
  run_id: "r",
  thread_id: "t",
  agent_id: "a",
  agent_name: "Meridian",
  call_id: "c",
  action: "shell",
  arguments: { command: "rm -rf notices/" },
  act_hash: "7f3a0000c21e",
  reason: "It asks first.",
  pattern: null,
  status: "pending",
  note: "",
  created_at: "2026-11-17T13:40:00Z",
  expires_at: "2026-11-18T13:40:00Z",
  decided_at: null,
};

const sent: unknown[] = [];

function show(at = now) {
  sent.length = 0;
  vi.stubGlobal("fetch", async (request: Request) => {
    sent.push({ path: new URL(request.url).pathname, body: await request.json() });
    return Response.json({ ...approval, status: "approved", decided_at: approval.created_at });
  });
  render(
    <QueryClientProvider client={new QueryClient()}>
      <Voucher approval={approval} now={at} />
    </QueryClientProvider>,
  );
}

beforeEach(() => vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }));
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("nobody approves what has not been on screen for half a second", () => {
  show();
  expect(screen.getByText("rm -rf notices/")).toBeInTheDocument();
  expect(screen.getByRole("button", { name: "Approve shell" })).toBeDisabled();
  act(() => void vi.advanceTimersByTime(500));
  expect(screen.getByRole("button", { name: "Approve shell" })).toBeEnabled();
});

test("a decision names the hash of the act that was shown", async () => {
  show();
  act(() => void vi.advanceTimersByTime(500));
  vi.useRealTimers();
  fireEvent.click(screen.getByRole("button", { name: "Approve shell" }));
  await waitFor(() => expect(sent).toHaveLength(1));
  expect(sent[0]).toEqual({
    path: "/api/approvals/p/decision",
    body: { decision: "approve", always: false, note: "", act_hash: "7f3a0000c21e" },
  });
});

test("an act that has expired cannot be decided, and always is offered only with a pattern", () => {
  show(Date.parse("2026-11-19T00:00:00Z"));
  act(() => void vi.advanceTimersByTime(500));
  expect(screen.getByRole("button", { name: "Approve shell" })).toBeDisabled();
  expect(screen.queryByRole("button", { name: "Always…" })).toBeNull();
});
