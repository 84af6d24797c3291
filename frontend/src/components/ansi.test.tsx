import { render } from "@testing-library/react";

import { Ansi, lineCount, parseAnsi } from "./ansi";

const shown = (text: string) => parseAnsi(text).map((line) => line.map((span) => span.text).join(""));
const classes = (text: string) => parseAnsi(text).flatMap((line) => line.map((span) => [span.text, span.className]));

describe("terminal output", () => {
  it("turns colours and weights into classes and ends them", () => {
    expect(classes("a\x1b[31mred\x1b[1mbold\x1b[0mend")).toEqual([
      ["a", ""],
      ["red", "a-r"],
      ["bold", "a-r a-B"],
      ["end", ""],
    ]);
    expect(classes("\x1b[92mok\x1b[39m.")).toEqual([
      ["ok", "a-g"],
      [".", ""],
    ]);
  });

  it("maps the 256 and the true colours to the nearest token", () => {
    expect(classes("\x1b[38;5;196mx")).toEqual([["x", "a-r"]]);
    expect(classes("\x1b[38;2;0;200;220mx")).toEqual([["x", "a-c"]]);
    expect(classes("\x1b[38;5;240mx")).toEqual([["x", "a-d"]]);
    expect(classes("\x1b[48;5;196mx")).toEqual([["x", ""]]);
  });

  it("overwrites a line after a carriage return, and not before something follows", () => {
    expect(shown("10%\r20%\r30%\ndone")).toEqual(["30%", "done"]);
    expect(shown("10%\r")).toEqual(["10%"]);
    expect(shown("one\r\ntwo\r\r\nthree")).toEqual(["one", "two", "three"]);
    expect(shown("ab\x08c")).toEqual(["ac"]);
  });

  it("drops what would move the cursor, set a title or ring", () => {
    expect(shown("\x1b[2J\x1b[1;1Hhi\x1b]0;title\x07\x07 there\x1b(B")).toEqual(["hi there"]);
  });

  it("is text: markup stays letters", () => {
    const { container } = render(<Ansi text={"<img src=x onerror=alert(1)>\n\x1b[31m<b>no</b>"} />);
    expect(container.querySelector("img, b")).toBeNull();
    expect(container.textContent).toBe("<img src=x onerror=alert(1)>\n<b>no</b>");
  });

  it("reads 200 kB of colours quickly", () => {
    const began = performance.now();
    parseAnsi("\x1b[32mok\x1b[0m line of output that is fairly usual\n".repeat(4_500));
    expect(performance.now() - began).toBeLessThan(500);
  });

  it("counts lines", () => {
    expect([lineCount(""), lineCount("a"), lineCount("a\n"), lineCount("a\nb")]).toEqual([0, 1, 1, 2]);
  });
});
