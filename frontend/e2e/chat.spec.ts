import { execFileSync } from "node:child_process";

import type { Page } from "@playwright/test";

import { address, expect, looksRight, test } from "./fixtures";

/** The demo model does what a message says line by line. */
const script = (...lines: string[]): string => ["#script", ...lines].join("\n");

const composer = (page: Page) => page.getByRole("textbox", { name: "Message" });
const written = (page: Page) => page.locator("[data-kind=writing] .prose, [data-kind=answer] .prose");

async function say(page: Page, text: string): Promise<void> {
  await composer(page).fill(text);
  await composer(page).press("Enter");
}

/** An empty thread with the agent that setup made. Others may have been made since, with fewer tools. */
async function open(page: Page): Promise<void> {
  const { items } = (await (await page.request.get(address("/api/agents?limit=100"))).json()) as { items: { agent_id: string; created_at: string }[] };
  const first = items.toSorted((one, other) => one.created_at.localeCompare(other.created_at))[0];
  await page.goto(address(`/threads/new?agent=${first?.agent_id}`));
}

/** A new thread, begun by a message. */
async function begin(page: Page, text: string): Promise<void> {
  await open(page);
  await say(page, text);
  await expect(page).toHaveURL(/\/threads\/[0-9a-f-]{36}$/);
}

const done = (page: Page) => expect(page.locator(".strip").getByText("Done")).toBeVisible();

/** The worker's process id, among the children of the product. */
function worker(): number {
  const lines = execFileSync("ps", ["-o", "pid=,args=", "--ppid", process.env.VIBE_E2E_PID ?? ""], { encoding: "utf8" }).split("\n");
  const line = lines.find((one) => /backend\.cli worker/.test(one));
  if (!line) throw new Error(`No worker among:\n${lines.join("\n")}`);
  return Number.parseInt(line, 10);
}

test("an act waits for a person, who reads all of it, and the decision stays", async ({ page }) => {
  await begin(page, "Write `hello` to notes.txt, run `ls` and then delete notes.txt");
  const voucher = page.getByRole("group", { name: /asks to use delete_file/ });
  await expect(voucher).toContainText("notes.txt");
  await expect(page.locator("aside").getByText("notes.txt")).toBeVisible();
  await expect(page.locator("[data-slot=tool][data-state=output-available]").filter({ hasText: "shell" })).toContainText("exit 0");
  await looksRight(page, "chat-voucher");
  await expect(voucher.getByRole("button", { name: "Deny", exact: true })).toBeEnabled();
  await voucher.focus();
  await page.keyboard.press("d");
  await expect(page.getByText(/^Denied \d\d:\d\d$/)).toBeVisible();
  await done(page);
  await page.reload();
  await expect(page.getByText(/^Denied \d\d:\d\d$/)).toBeAttached();
  await page.getByRole("button", { name: /DEMO · scripted, no AI/ }).last().click();
  await expect(page.getByText("scripted/demo")).toBeVisible();
  await looksRight(page, "chat-done");
});

test("a reload in mid answer goes on where it was, with nothing twice", async ({ page }) => {
  await begin(page, script("pace 25", "say 400 words"));
  await expect(written(page)).toContainText("old oak tree");
  const before = await written(page).innerText();
  await page.reload();
  await expect(written(page)).toContainText(before.trim().split(/\s+/).slice(0, 20).join(" "));
  await done(page);
  expect((await written(page).innerText()).trim().split(/\s+/)).toHaveLength(400);
});

test("Escape stops a run, and what was written stays", async ({ page }) => {
  await begin(page, script("pace 20", "say 600 words"));
  await expect(written(page)).toContainText("oak tree");
  await page.keyboard.press("Escape");
  await expect(page.getByText("Stopped by you.")).toBeVisible();
  await expect(written(page)).toContainText("the quick brown fox");
  await expect(page.getByRole("button", { name: "Send" })).toBeVisible();
});

test("messages queue with their place, and one can interrupt", async ({ page }) => {
  await begin(page, script("pace 20", "say 1000 words"));
  await expect(written(page)).toContainText("oak tree");
  await say(page, script('say "Second."'));
  await expect(page.getByText("Queued, next")).toBeVisible();
  await page.getByRole("radio", { name: "Interrupt" }).click();
  await say(page, script('say "At once."'));
  await expect(page.locator("[data-kind=answer]").filter({ hasText: "At once." })).toBeVisible();
  // An interruption clears the way: the run and what waited behind it are stopped.
  await expect(page.getByText("Stopped by you.")).toHaveCount(2);
});

test("a failed run says why, and Retry answers the same message again", async ({ page }) => {
  await begin(page, script("fail 401"));
  await expect(page.getByRole("alert").filter({ hasText: "The provider does not accept the key" })).toBeVisible();
  await looksRight(page, "chat-failed");
  await page.getByRole("button", { name: "Retry" }).click();
  await expect(page.locator("[data-kind=end]")).toHaveCount(2);
  await expect(page.locator("[data-kind=user]")).toHaveCount(1);
  await expect(page.getByRole("button", { name: "Retry" })).toHaveCount(1);
});

test("a reader who scrolled up is left alone, and finds the way back", async ({ page }) => {
  await begin(page, script("say 600 words", "pace 40", "say 1600 words"));
  await expect(page.locator("[data-kind=writing]")).toBeVisible();
  const transcript = page.getByRole("region", { name: "Transcript" });
  await expect.poll(() => transcript.evaluate((element) => element.scrollHeight - element.clientHeight)).toBeGreaterThan(600);
  await transcript.hover();
  await page.mouse.wheel(0, -400);
  const pill = page.getByRole("button", { name: /Jump to latest/ });
  await expect(pill).toBeVisible();
  const [place, length] = await transcript.evaluate((element) => [element.scrollTop, element.scrollHeight]);
  await expect.poll(() => transcript.evaluate((element) => element.scrollHeight)).toBeGreaterThan(length! + 20);
  expect(Math.abs((await transcript.evaluate((element) => element.scrollTop)) - place!)).toBeLessThanOrEqual(1);
  await pill.click();
  await expect(pill).toBeHidden();
});

test("the whole of it works by keyboard", async ({ page }) => {
  await open(page);
  await expect(composer(page)).toBeVisible();
  await page.keyboard.press("/");
  await expect(composer(page)).toBeFocused();
  await page.keyboard.type("Write `x` to keys.txt and then delete keys.txt");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("group", { name: /asks to use/ })).toBeVisible();
  for (let at = 0; at < 60 && !(await page.evaluate(() => document.activeElement?.getAttribute("data-slot") === "voucher")); at++) {
    await page.keyboard.press("Shift+Tab");
  }
  await expect(page.getByRole("button", { name: /^Approve/ })).toBeEnabled();
  await page.keyboard.press("a");
  await expect(page.getByText(/^Approved \d\d:\d\d$/)).toBeVisible();
  await done(page);
});

test("a killed worker costs neither a word nor a line, and the page says what runs", async ({ page }) => {
  await begin(page, script("pace 30", "say 200 words", 'call shell {"command":"for i in 1 2 3; do echo line $i; sleep 1; done"}', 'say "It is finished."'));
  await expect(written(page)).toContainText("oak tree");
  process.kill(worker(), "SIGKILL");
  // Until its lease has run out nobody else may touch the run.
  await expect(page.locator("[data-slot=tool]")).toContainText("line 1", { timeout: 60_000 });
  await done(page);
  await expect(page.locator("[data-kind=answer]").filter({ hasText: "It is finished." })).toHaveCount(1);
  await expect(page.locator("[data-slot=tool]")).toHaveCount(1);
  await page.locator("[role=region][aria-label=Transcript]").press("Home");
  expect((await written(page).first().innerText()).trim().split(/\s+/)).toHaveLength(200);
});
