import { defineConfig } from "@playwright/test";

/** The whole product as a person has it: the real server, the built pages, one browser. One worker: there is one owner. */
export default defineConfig({
  testDir: ".",
  outputDir: "../test-results",
  globalSetup: "./product.ts",
  workers: 1,
  fullyParallel: false,
  forbidOnly: true,
  timeout: 90_000,
  expect: { timeout: 20_000 },
  reporter: [["list"]],
  use: {
    viewport: { width: 1280, height: 800 },
    trace: "retain-on-failure",
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
    },
  },
  projects: [
    { name: "first run", testMatch: "first-run.spec.ts" },
    { name: "product", testIgnore: "first-run.spec.ts", dependencies: ["first run"] },
  ],
});
