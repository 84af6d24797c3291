import { AxeBuilder } from "@axe-core/playwright";
import { expect, test as base, type Page } from "@playwright/test";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";

export { expect };

export const owner = { name: "Mara Lindqvist", email: "mara@example.org", password: "correct horse battery" };

export const setupUrl = (): string => process.env.VIBE_E2E_URL ?? "";
export const address = (path: string): string => new URL(path, setupUrl()).href;
export const session = (): string => process.env.VIBE_E2E_STATE ?? "";

/** What a browser says by itself when the API refuses something or names a part that is down: the page's business, not an error of it. */
const refusal = /Failed to load resource: the server responded with a status of (4\d\d|503)/;

/** A page that fails its test for anything on the console and for every report of the content policy. */
export const test = base.extend<{ page: Page }>({
  storageState: async ({}, give) => give(existsSync(session()) ? session() : undefined),
  page: async ({ page }, give) => {
    const complaints: string[] = [];
    page.on("console", (message) => {
      if (message.type() === "error" && !refusal.test(message.text())) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(String(error)));
    await page.addInitScript(() =>
      document.addEventListener("securitypolicyviolation", (event) =>
        console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`),
      ),
    );
    await give(page);
    expect(complaints, "what the console said").toEqual([]);
  },
});

/** No serious fault of accessibility, in either theme and on either size; a picture of each is left in test-results. */
export async function looksRight(page: Page, name: string): Promise<void> {
  const pictures = join(import.meta.dirname, "../test-results/pictures");
  mkdirSync(pictures, { recursive: true });
  for (const theme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
    await expect(page.locator("html")).toHaveAttribute("data-theme", theme);
    for (const [size, viewport] of Object.entries({ desk: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } })) {
      await page.setViewportSize(viewport);
      await page.screenshot({ path: join(pictures, `${name}-${size}-${theme}.png`) });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      expect(wide, `${name} scrolls sideways on a ${size}`).toBeLessThanOrEqual(0);
      // Colours are the theme's and the layout is the size's: each is judged once.
      if ((theme === "light") !== (size === "desk")) continue;
      const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]).analyze();
      const faults = violations.map((one) => `${one.id}: ${one.nodes.map((node) => `${node.target} ${node.failureSummary ?? ""}`).join(" | ")}`);
      expect(faults, `${name}, ${theme}, ${size}`).toEqual([]);
    }
    await page.setViewportSize({ width: 1280, height: 800 });
  }
}
