// Runs the official @supabase/auth-js for a test: a line of JSON in ({client, method, args}), the client's answer out.
// Each `client` is one of its own, with its storage in memory, as a tab of its own has.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [url, modules] = process.argv.slice(2);
const { AuthClient } = createRequire(`${modules}/`)("@supabase/auth-js");
const clients = new Map();

function client(name) {
  if (!clients.has(name)) {
    const kept = new Map();
    const storage = {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => void kept.set(key, value),
      removeItem: (key) => void kept.delete(key),
    };
    clients.set(name, new AuthClient({ url, storage, storageKey: name, autoRefreshToken: false, detectSessionInUrl: false, headers: { apikey: "anon" } }));
  }
  return clients.get(name);
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, client: name, method, args } = JSON.parse(line);
  const { data = null, error = null } = await client(name)[method](...args);
  const told = error && { name: error.name, status: error.status ?? null, code: error.code ?? null, message: error.message, reasons: error.reasons ?? null };
  process.stdout.write(`${JSON.stringify({ id, data, error: told })}\n`);
}
