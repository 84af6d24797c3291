import { act, render, screen } from "@testing-library/react";

import { toast, Toaster } from "./toast";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

test("an act that can be undone happens when the toast goes, and not when it was undone", () => {
  render(<Toaster />);
  const gone = vi.fn();
  const undone = vi.fn();
  act(() => void toast({ text: "Deleted", action: { label: "Undo", run: undone }, onGone: gone }));
  act(() => screen.getByRole("button", { name: "Undo" }).click());
  act(() => void vi.advanceTimersByTime(10_000));
  expect(undone).toHaveBeenCalledOnce();
  expect(gone).not.toHaveBeenCalled();
  act(() => void toast({ text: "Deleted again", action: { label: "Undo", run: undone }, onGone: gone }));
  act(() => void vi.advanceTimersByTime(10_000));
  expect(gone).toHaveBeenCalledOnce();
  expect(screen.queryByText("Deleted again")).toBeNull();
});

test("three toasts stand at once, the oldest goes", () => {
  render(<Toaster />);
  act(() => ["one", "two", "three", "four"].forEach((text) => void toast({ text })));
  expect(screen.queryByText("one")).toBeNull();
  expect(screen.getByText("four")).toBeInTheDocument();
});
