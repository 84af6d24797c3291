import { printedBy } from "./tool-text";

describe("what a tool answered, as people read it", () => {
  it("is what the command printed, without the words for the model", () => {
    expect(printedBy("shell", "exit code 0\n--- stdout\nhi\nthere")).toEqual({ note: "", parts: [{ stream: "out", text: "hi\nthere" }] });
    expect(printedBy("shell", "exit code 0")).toEqual({ note: "", parts: [] });
    expect(printedBy("shell", "exit code 1\n--- stderr\nno such file")).toEqual({ note: "", parts: [{ stream: "err", text: "no such file" }] });
  });

  it("keeps what was printed as an error apart", () => {
    expect(printedBy("shell", "exit code 1\n--- stdout\na\n--- stderr\nb").parts).toEqual([
      { stream: "out", text: "a" },
      { stream: "err", text: "b" },
    ]);
  });

  it("keeps what is said about the command, but not what the card says already", () => {
    const text = "[The sandbox was restarted on the same files. These were running and are not any more: sleep 9]\nexit code -9\nThe command was killed.\nThe whole output is in logs/1.log.\n--- stdout\na";
    expect(printedBy("shell", text)).toEqual({
      note: "[The sandbox was restarted on the same files. These were running and are not any more: sleep 9]\nThe command was killed.",
      parts: [{ stream: "out", text: "a" }],
    });
  });

  it("stays whole where it has no such form", () => {
    expect(printedBy("shell", "SandboxDied: it is gone")).toEqual({ note: "", parts: [{ stream: "out", text: "SandboxDied: it is gone" }] });
    expect(printedBy("read_file", "exit code 0")).toEqual({ note: "", parts: [{ stream: "out", text: "exit code 0" }] });
    expect(printedBy("read_file", "")).toEqual({ note: "", parts: [] });
  });
});
