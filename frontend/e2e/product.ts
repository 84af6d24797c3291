import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const root = resolve(import.meta.dirname, "../..");

/** Starts the product on an empty data directory; its printed address is `VIBE_E2E_URL`, its process `VIBE_E2E_PID`. Answers how to end it. */
export default async function start(): Promise<() => Promise<void>> {
  const data = mkdtempSync(join(tmpdir(), "vibe-e2e-"));
  const child = spawn(join(root, ".venv/bin/python"), ["-m", "backend.cli", "up", "--port", "0"], {
    cwd: root,
    env: { ...process.env, VIBE_DATA_DIR: data, PYTHONUNBUFFERED: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const said: string[] = [];
  const ended = new Promise<never>((_, refuse) => {
    child.once("exit", (code) => refuse(new Error(`The product ended with ${code}:\n${said.slice(-30).join("\n")}`)));
  });
  const address = new Promise<string>((found) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        said.push(line);
        const url = /https?:\/\/\S+\/setup\?token=\S+/.exec(line)?.[0];
        if (url) found(url);
      });
    }
  });
  process.env.VIBE_E2E_PID = String(child.pid);
  process.env.VIBE_E2E_URL = await Promise.race([address, ended]);
  process.env.VIBE_E2E_STATE = join(data, "e2e-session.json");
  ended.catch(() => undefined);
  return async () => {
    const gone = new Promise((done) => child.once("exit", done));
    child.kill("SIGTERM");
    await gone;
    // What the processes wrote explains a failure better than any picture.
    const kept = join(root, "frontend/test-results/logs");
    cpSync(join(data, "logs"), kept, { recursive: true });
    writeFileSync(join(kept, "printed.txt"), said.join("\n"));
    rmSync(data, { recursive: true, force: true });
  };
}
