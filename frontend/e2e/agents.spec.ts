import { address, expect, looksRight, test } from "./fixtures";

test("an agent is made, edited as form and as YAML, published, rolled back, copied and deleted", async ({ page }) => {
  await page.goto(address("/agents"));
  await page.getByRole("button", { name: "New agent" }).click();
  await looksRight(page, "agents-new");
  await page.getByRole("dialog").getByRole("button", { name: /^Blank/ }).click();
  await expect(page).toHaveURL(/\/agents\/[0-9a-f-]{36}/);

  await page.getByLabel("Name", { exact: true }).fill("Ledger clerk");
  await page.getByLabel("Instructions").fill("Keep the books.\nAsk before you pay.");
  await page.getByRole("radiogroup", { name: "What code_execution may do" }).getByRole("radio", { name: "ask" }).click();
  await expect(page.getByText("Unsaved changes")).toBeVisible();
  await looksRight(page, "agent-form");

  await page.getByRole("tab", { name: "YAML" }).click();
  const yaml = page.getByRole("textbox", { name: "The agent as YAML" });
  await expect(yaml).toHaveValue(/name: "?Ledger clerk/);
  const good = await yaml.inputValue();
  await yaml.fill(good.replace("name:", "nmae:"));
  await expect(page.getByRole("alert").getByText(/line 2, column \d/).first()).toBeVisible();
  await expect(page.getByRole("button", { name: "Save draft" })).toBeDisabled();
  await looksRight(page, "agent-yaml-error");
  await yaml.fill(good);
  await expect(page.getByText("Valid", { exact: true })).toBeVisible();
  await page.getByRole("button", { name: "Save draft" }).click();
  await expect(page.getByText("Draft on v1")).toBeVisible();

  await page.getByRole("button", { name: "Publish v2" }).click();
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByText(/^\+\s+name: "?Ledger clerk/)).toBeVisible();
  await dialog.getByLabel("Note").fill("Asks first");
  await looksRight(page, "agent-publish");
  await dialog.getByRole("button", { name: "Publish v2" }).click();
  await expect(page.getByText("v2 is active").first()).toBeVisible();

  await page.getByRole("tab", { name: /Versions/ }).click();
  await expect(page.getByText("Asks first")).toBeVisible();
  await looksRight(page, "agent-versions");
  await page.getByRole("button", { name: "Roll back to it" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Activate" }).click();
  await expect(page.getByText("v1 is active").first()).toBeVisible();

  await page.getByRole("button", { name: "More" }).click();
  await page.getByRole("menuitem", { name: "Duplicate" }).click();
  await expect(page.getByText(/created$/)).toBeVisible();
  await page.getByRole("button", { name: "More" }).click();
  await page.getByRole("menuitem", { name: "Delete agent…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: /^Delete / }).click();
  await expect(page).toHaveURL(/\/agents$/);
  await looksRight(page, "agents");
});

test("two people on one draft: the second to save decides, and nothing typed is lost", async ({ page, context }) => {
  await page.goto(address("/agents"));
  await page.getByRole("button", { name: "New agent" }).click();
  await page.getByRole("dialog").getByRole("button", { name: /^Blank/ }).click();
  await expect(page).toHaveURL(/\/agents\/[0-9a-f-]{36}/);
  const other = await context.newPage();
  await other.goto(page.url());
  await other.getByLabel("Name", { exact: true }).fill("Theirs");
  await page.getByLabel("Name", { exact: true }).fill("Mine");
  await other.getByRole("button", { name: "Save draft" }).click();
  await expect(other.getByText("Draft on v1")).toBeVisible();
  await page.getByRole("button", { name: "Save draft" }).click();
  await expect(page.getByRole("dialog", { name: "Somebody else changed this draft" })).toBeVisible();
  await expect(page.getByText("name: Theirs")).toBeVisible();
  await looksRight(page, "agent-conflict");
  await page.getByRole("button", { name: "Save mine over it" }).click();
  await expect(page.getByText("Draft on v1")).toBeVisible();
  await expect(page.getByLabel("Name", { exact: true })).toHaveValue("Mine");

  await page.getByLabel("Name", { exact: true }).fill("Half typed");
  await page.getByRole("navigation").first().getByRole("link", { name: "Settings" }).click();
  await expect(page.getByRole("dialog", { name: "Leave with unsaved changes?" })).toBeVisible();
  await page.getByRole("button", { name: "Stay" }).click();
  await expect(page.getByLabel("Name", { exact: true })).toHaveValue("Half typed");
});
