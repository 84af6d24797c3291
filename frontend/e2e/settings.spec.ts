import { address, expect, looksRight, owner, test } from "./fixtures";

test("settings say what is connected, what it costs and what is off", async ({ page }) => {
  await page.goto(address("/settings"));
  await expect(page.getByRole("article", { name: "Demo model, no AI" })).toBeVisible();
  await expect(page.getByRole("heading", { name: "Prices" })).toBeVisible();
  await looksRight(page, "settings-models");
  const custom = page.getByRole("article", { name: /OpenAI-compatible/ });
  await custom.getByLabel(/^Address/).fill("http://127.0.0.1:9/v1");
  await custom.getByRole("button", { name: /Test/ }).click();
  await expect(custom.getByText("No answer")).toBeVisible();

  await page.getByRole("tab", { name: "API keys" }).click();
  await page.getByRole("button", { name: "New key" }).click();
  await page.getByLabel("What is it for?").fill("Backups");
  await page.getByRole("button", { name: "Create the key" }).click();
  await expect(page.locator("output")).toHaveText(/^vibe_/);
  await looksRight(page, "settings-key-once");
  await page.getByRole("button", { name: "I have copied it" }).click();
  await page.getByRole("button", { name: "Revoke Backups" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke Backups" }).click();
  await expect(page.getByText("“Backups” revoked")).toBeVisible();

  for (const tab of ["Account", "Appearance", "Health"]) {
    await page.getByRole("tab", { name: tab }).click();
    await expect(page.getByRole("tab", { name: tab })).toHaveAttribute("aria-selected", "true");
    await looksRight(page, `settings-${tab.toLowerCase()}`);
  }
});

test("lists: threads and approvals", async ({ page }) => {
  await page.goto(address("/threads"));
  await expect(page.getByRole("list", { name: "Threads" })).toBeVisible();
  await looksRight(page, "threads");
  await page.getByRole("button", { name: /^Actions for/ }).first().click();
  await page.getByRole("menuitem", { name: "Rename" }).click();
  await page.getByRole("dialog").getByLabel("Title").fill("Renamed by a person");
  await page.getByRole("dialog").getByRole("button", { name: "Rename" }).click();
  await expect(page.getByRole("link", { name: "Renamed by a person" })).toBeVisible();
  await page.getByRole("navigation").first().getByRole("link", { name: /Approvals/ }).click();
  await expect(page.getByText("Nothing waits for you")).toBeVisible();
  await looksRight(page, "approvals");
});

test("an address that names nothing says so", async ({ page }) => {
  await page.goto(address("/nothing/here"));
  await expect(page.getByText("There is no such page")).toBeVisible();
  await page.goto(address("/agents/0198ffff-0000-7000-8000-000000000000"));
  await expect(page.getByRole("heading", { name: "There is no such page" }).first()).toBeVisible();
});

test.describe("who is not signed in", () => {
  test.use({ storageState: { cookies: [], origins: [] } });

  test("is asked, and comes back to where he wanted", async ({ page }) => {
    await page.goto(address("/settings?tab=health"));
    await expect(page).toHaveURL(/\/login\?next=/);
    await looksRight(page, "login");
    await page.getByLabel("Email").fill(owner.email);
    await page.getByLabel("Password").fill("wrong password");
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page.getByText("Email or password is wrong.")).toBeVisible();
    await page.getByLabel("Password").fill(owner.password);
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page).toHaveURL(/\/settings\?tab=health/);
    await expect(page.getByRole("tab", { name: "Health" })).toHaveAttribute("aria-selected", "true");
    await page.getByRole("button", { name: "Account menu" }).click();
    await page.getByRole("menuitem", { name: "Sign out" }).click();
    await expect(page).toHaveURL(/\/login/);
  });
});
