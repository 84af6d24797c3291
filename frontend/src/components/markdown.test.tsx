import { render, screen, waitFor } from "@testing-library/react";

import { highlight } from "./highlight";
import { Markdown as Arriving } from "./markdown";
import { Markdown } from "./markdown-body";
import { BlockSplitter } from "./markdown-blocks";

const sample = `# Heading

A paragraph with **bold**, \`code\` and a [link](https://example.org/a).

- one
- two

  - nested

1. first

| a | b |
|---|---|
| 1 | 2 |

\`\`\`python
def f():

    return "x"
\`\`\`

> quoted

End.
`;

describe("markdown blocks", () => {
  it("are the same whether a text comes whole or letter by letter", () => {
    const whole = new BlockSplitter().split(sample);
    const growing = new BlockSplitter();
    let last: readonly unknown[] = [];
    for (let at = 1; at <= sample.length; at++) last = growing.split(sample.slice(0, at));
    expect(last).toEqual(whole);
  });

  it("before the last keep their identity while the text grows", () => {
    const growing = new BlockSplitter();
    const first = growing.split("One.\n\nTwo");
    const second = growing.split("One.\n\nTwo and more");
    expect(second[0]).toBe(first[0]);
    expect(second[1]?.raw).toBe("Two and more");
  });

  it("start over when the text is another one", () => {
    const splitter = new BlockSplitter();
    splitter.split("One.\n\nTwo.");
    expect(splitter.split("Else.").map((block) => block.raw)).toEqual(["Else."]);
  });
});

describe("markdown", () => {
  it("draws lists, tables and code", () => {
    const { container } = render(<Markdown text={sample} />);
    expect(container.querySelectorAll("li")).toHaveLength(4);
    expect(container.querySelectorAll("td")).toHaveLength(2);
    expect(container.querySelector("pre")?.textContent).toBe('def f():\n\n    return "x"');
  });

  it("colours code once the highlighter has come", async () => {
    const { container } = render(<Markdown text={"```python\ndef f(): pass\n```"} />);
    await waitFor(() => expect(container.querySelector(".s-kw")?.textContent).toBe("def"));
  });

  it("shows raw HTML as letters", () => {
    const { container } = render(<Markdown text={"<script>alert(1)</script>\n\nHi <img src=x onerror=alert(1)> <b onclick=x>you</b>"} />);
    expect(container.querySelector("script, img, b")).toBeNull();
    expect(container.textContent).toContain("<script>alert(1)</script>");
  });

  it.each(["javascript:alert(1)", "data:text/html,x", "vbscript:x", "/settings", "//evil.example", "file:///etc/passwd", "  JaVaScRiPt:alert(1)"])(
    "makes no link of %s",
    (url) => {
      const { container } = render(<Markdown text={`[here](<${url}>)`} />);
      expect(container.querySelector("a")).toBeNull();
      expect(container.textContent).toContain("here");
    },
  );

  it("opens links without a referrer and names a host that the words hide", () => {
    render(<Markdown text={"[the report](https://example.org/a) and https://example.org/b"} />);
    const [hidden, told] = screen.getAllByRole("link");
    expect(hidden).toHaveAttribute("rel", "noopener noreferrer nofollow");
    expect(hidden?.nextSibling?.textContent).toContain("example.org");
    expect(told?.nextSibling?.textContent ?? "").not.toContain("(");
  });

  it("follows reference links across blocks", () => {
    render(<Markdown text={"See [the report][r].\n\nMore.\n\n[r]: https://example.org/r"} />);
    expect(screen.getByRole("link")).toHaveAttribute("href", "https://example.org/r");
  });

  it("never loads an image by itself", () => {
    const { container } = render(<Markdown text={"![chart](https://tracker.example/p.png?id=1)\n\n![x](javascript:alert(1))"} />);
    expect(container.querySelector("img")).toBeNull();
    expect(screen.getByRole("link")).toHaveTextContent("tracker.example");
  });
});

it("loses no letter to colours", () => {
  const code = 'const a: string = `x ${1 + 2}`; // note\n<script>"&amp;"</script>';
  for (const lang of ["typescript", "xml", "json", "bash", "yaml"]) {
    expect(highlight(code, lang)?.map((piece) => piece.text).join("")).toBe(code);
  }
  expect(highlight(code, "klingon")).toBeUndefined();
});

it("stands as plain text until what reads Markdown has come", async () => {
  const { container } = render(<Arriving text="**bold**" />);
  expect(container.textContent).toMatch(/bold/);
  await waitFor(() => expect(container.querySelector("strong")?.textContent).toBe("bold"));
});
