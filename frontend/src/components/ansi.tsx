/** What a terminal would show of a program's output: colours as spans, overwritten lines overwritten, everything else dropped. Text only. */
import { memo } from "react";

export interface Span {
  text: string;
  className: string;
}

interface Style {
  bold: boolean;
  dim: boolean;
  underline: boolean;
  colour: string;
}

const plain: Style = { bold: false, dim: false, underline: false, colour: "" };

/** Black and white are the paper's own; the six others have a token each. */
const colours = ["", "a-r", "a-g", "a-y", "a-b", "a-m", "a-c", ""] as const;

/** The nearest of the six to a colour of the cube of 256. */
function fromCube(index: number): string {
  if (index < 8) return colours[index] ?? "";
  if (index < 16) return index === 8 ? "a-d" : (colours[index - 8] ?? "");
  if (index >= 232) return index < 246 ? "a-d" : "";
  const cube = index - 16;
  return nearest(Math.floor(cube / 36) / 5, (Math.floor(cube / 6) % 6) / 5, (cube % 6) / 5);
}

function nearest(red: number, green: number, blue: number): string {
  const most = Math.max(red, green, blue);
  if (most - Math.min(red, green, blue) < 0.2) return most < 0.6 ? "a-d" : "";
  const bit = (part: number, value: number) => (part >= most * 0.7 ? value : 0);
  return colours[bit(red, 1) + bit(green, 2) + bit(blue, 4)] ?? "";
}

function styled(style: Style, codes: number[]): Style {
  let next = style;
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at] ?? 0;
    if (code === 0) next = plain;
    else if (code === 1) next = { ...next, bold: true };
    else if (code === 2) next = { ...next, dim: true };
    else if (code === 4) next = { ...next, underline: true };
    else if (code === 22) next = { ...next, bold: false, dim: false };
    else if (code === 24) next = { ...next, underline: false };
    else if (code >= 30 && code <= 37) next = { ...next, colour: colours[code - 30] ?? "" };
    else if (code === 39) next = { ...next, colour: "" };
    else if (code >= 90 && code <= 97) next = { ...next, colour: code === 90 ? "a-d" : (colours[code - 90] ?? "") };
    else if (code === 38 || code === 48) {
      const colour = codes[at + 1] === 5 ? fromCube(codes[at + 2] ?? 0) : nearest((codes[at + 2] ?? 0) / 255, (codes[at + 3] ?? 0) / 255, (codes[at + 4] ?? 0) / 255);
      at += codes[at + 1] === 5 ? 2 : 4;
      if (code === 38) next = { ...next, colour };
    }
  }
  return next;
}

const classOf = ({ bold, dim, underline, colour }: Style): string =>
  [colour || (dim ? "a-d" : ""), bold ? "a-B" : "", underline ? "a-u" : ""].filter(Boolean).join(" ");

// CSI … final byte · OSC … BEL or ST · any other escape · line feed · carriage return(s) · backspace · other control letters
const control = /\x1b\[([0-9;:?<=>]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[PX^_][^\x1b]*(?:\x1b\\)?|\x1b[ -/]*.?|(\n)|(\r+\n?)|(\x08)|[\x00-\x08\x0b-\x1f\x7f]/g;

/** Lines of spans. Cursor movement beyond a carriage return is ignored: a full-screen program is not drawn. */
export function parseAnsi(text: string): Span[][] {
  const lines: Span[][] = [];
  let line: Span[] = [];
  let style = plain;
  let returned = false;
  const put = (piece: string) => {
    if (!piece) return;
    if (returned) {
      line = [];
      returned = false;
    }
    const className = classOf(style);
    const last = line.at(-1);
    if (last?.className === className) last.text += piece;
    else line.push({ text: piece, className });
  };
  const feed = () => {
    lines.push(line);
    line = [];
    returned = false;
  };
  let from = 0;
  for (const match of text.matchAll(control)) {
    put(text.slice(from, match.index));
    from = match.index + match[0].length;
    const [, parameters, final, newline, carriage, back] = match;
    if (newline || carriage?.endsWith("\n")) feed();
    else if (carriage) returned = true;
    else if (back) {
      const last = line.at(-1);
      if (last) last.text = last.text.slice(0, -1);
    } else if (final === "m") style = styled(style, (parameters || "0").split(/[;:]/).map(Number));
    else if (final === "K" && parameters === "2") line = [];
  }
  put(text.slice(from));
  lines.push(line);
  return lines;
}

/** How many lines a text has, an unfinished one included. */
export const lineCount = (text: string): number => {
  let count = text.endsWith("\n") || text === "" ? 0 : 1;
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) count++;
  return count;
};

export const Ansi = memo(function Ansi({ text }: { text: string }) {
  const lines = parseAnsi(text);
  return (
    <>
      {lines.map((line, at) => (
        <span key={at}>
          {line.map((span, index) =>
            span.className ? (
              <span key={index} className={span.className}>
                {span.text}
              </span>
            ) : (
              span.text
            ),
          )}
          {at < lines.length - 1 ? "\n" : null}
        </span>
      ))}
    </>
  );
});
