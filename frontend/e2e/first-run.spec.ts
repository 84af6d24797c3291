import { address, expect, looksRight, owner, session, setupUrl, test } from "./fixtures";

test("from the printed address to the first answered message of the demo agent", async ({ page }) => {
  await page.goto(address("/agents"));
  await expect(page).toHaveURL(/\/setup/);
  await page.goto(setupUrl());
  await expect(page.getByRole("heading", { name: "Who owns this?" })).toBeVisible();
  await looksRight(page, "setup-owner");

  await page.getByRole("button", { name: "Create the owner" }).click();
  await expect(page.getByText("That is not an email address.")).toBeVisible();
  await page.getByLabel("Your name").fill(owner.name);
  await page.getByLabel("Email").fill(owner.email);
  await page.getByLabel("Password").fill(owner.password);
  await page.getByRole("button", { name: "Create the owner" }).click();

  await expect(page.getByRole("heading", { name: "Choose a brain" })).toBeVisible();
  await expect(page).not.toHaveURL(/token=/);
  await page.reload();
  await expect(page.getByRole("heading", { name: "Choose a brain" })).toBeVisible();
  const ollama = page.getByRole("article", { name: "Ollama" });
  await expect(ollama).toBeVisible();
  await expect(ollama.getByPlaceholder(/key/i)).toHaveCount(0);
  await looksRight(page, "setup-brain");
  await page.getByRole("button", { name: "Try the demo agent" }).click();
  await page.getByRole("button", { name: "Continue" }).click();
  // Who comes back later is where he was.
  await expect(page).toHaveURL(/step=task/);
  await page.goto(address("/"));

  await expect(page.getByRole("heading", { name: "What should it do?" })).toBeVisible();
  await expect(page.getByLabel("First message")).not.toBeEmpty();
  await looksRight(page, "setup-task");
  const said = await page.getByLabel("First message").inputValue();
  await page.getByRole("button", { name: "Start" }).click();

  await expect(page).toHaveURL(/\/threads\/new\?agent=/);
  const composer = page.getByRole("textbox");
  await expect(composer).toHaveValue(said);
  await composer.press("Enter");
  await expect(page).toHaveURL(/\/threads\/[0-9a-f-]{36}/);
  await expect(page.getByText("hello").first()).toBeVisible();
  await page.getByRole("button", { name: /^Approve/ }).click();
  await expect(page.getByText("Done").or(page.getByText("The agent has answered.")).first()).toBeAttached();

  // A reload shows the same thread, from the database.
  const url = page.url();
  await page.reload();
  await expect(page).toHaveURL(url);
  await expect(page.getByText("notes.txt").first()).toBeVisible();
  await page.goto(setupUrl());
  await expect(page).toHaveURL(/\/threads$/);
  await page.context().storageState({ path: session() });
});
