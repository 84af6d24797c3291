/** What a tool answered, as a person reads it: the words meant for the model taken apart. Pure. */

export interface Printed {
  /** What is said about the command besides what it printed, such as that it was ended. */
  note: string;
  parts: readonly { stream: "out" | "err"; text: string }[];
}

const exitLine = /^exit code -?\d+$/m;
const logLine = /^The whole output is in .+$/m;
const outMark = /^--- stdout\n/m;
const errMark = /^--- stderr\n/gm;

/** The sections of a shell's answer. What cannot be told apart stays whole. */
function ofShell(content: string): Printed {
  const out = outMark.exec(content);
  const err = [...content.matchAll(errMark)].at(-1);
  const head = content.slice(0, Math.min(out?.index ?? content.length, err?.index ?? content.length));
  if (!exitLine.test(head)) return { note: "", parts: [{ stream: "out", text: content }] };
  // The exit code and the log have a place of their own on the card.
  const note = head.replace(exitLine, "").replace(logLine, "").replace(/\n{2,}/g, "\n").trim();
  const parts: { stream: "out" | "err"; text: string }[] = [];
  if (out) parts.push({ stream: "out", text: content.slice(out.index + out[0].length, err && err.index > out.index ? err.index : undefined).trimEnd() });
  if (err) parts.push({ stream: "err", text: content.slice(err.index + err[0].length) });
  return { note, parts };
}

/** What the tool `name` answered. The exact text that the model read is `content` itself. */
export function printedBy(name: string, content: string): Printed {
  if (name === "shell") return ofShell(content);
  return { note: "", parts: content ? [{ stream: "out", text: content }] : [] };
}
