import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useState } from "react";

import { offsetOf, YamlEditor } from "./yaml-editor";

const errors = [{ line: 2, column: 3, loc: "model.nam", message: "Unknown key" }];

function Held() {
  const [yaml, setYaml] = useState("name: A\n  nam: b\n");
  return <YamlEditor value={yaml} onChange={setYaml} errors={errors} />;
}

test("an error says its line and column and leads there", async () => {
  const user = userEvent.setup();
  render(<Held />);
  expect(screen.getByRole("alert")).toHaveTextContent("line 2, column 3");
  await user.click(screen.getByRole("button", { name: "line 2, column 3" }));
  const area = screen.getByRole("textbox");
  expect(area).toHaveFocus();
  expect((area as HTMLTextAreaElement).selectionStart).toBe(offsetOf("name: A\n  nam: b\n", 2, 3));
});

test("Tab indents, and after Escape it leaves", async () => {
  const user = userEvent.setup();
  render(<Held />);
  const area = screen.getByRole<HTMLTextAreaElement>("textbox");
  await user.click(area);
  area.setSelectionRange(0, 0);
  await user.keyboard("{Tab}");
  expect(area.value.startsWith("  name")).toBe(true);
  await user.keyboard("{Escape}{Tab}");
  expect(area).not.toHaveFocus();
});

test("a place beyond the text is its end", () => {
  expect(offsetOf("a\nbc", 9, 1)).toBe(4);
  expect(offsetOf("a\nbc", 1, 9)).toBe(1);
});
