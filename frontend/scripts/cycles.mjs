// No import circle in src/: modules in a circle cannot be read, tested or moved alone. Types count too.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

const src = new URL("../src", import.meta.url).pathname;
const names = readdirSync(src, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name) && !entry.name.endsWith(".d.ts"))
  .map((entry) => join(entry.parentPath, entry.name));

function target(from, spec) {
  const base = spec.startsWith("@/") ? join(src, spec.slice(2)) : spec.startsWith(".") ? resolve(dirname(from), spec) : null;
  if (!base) return null;
  return [`${base}.ts`, `${base}.tsx`, join(base, "index.ts"), base].find((path) => /\.tsx?$/.test(path) && existsSync(path)) ?? null;
}

const uses = new Map(
  names.map((name) => {
    const specs = [...readFileSync(name, "utf8").matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].map(([, spec]) => spec);
    return [name, specs.map((spec) => target(name, spec)).filter(Boolean)];
  }),
);

const done = new Set();
const circles = [];
function walk(name, path) {
  const at = path.indexOf(name);
  if (at >= 0) return void circles.push([...path.slice(at), name]);
  if (done.has(name)) return;
  for (const next of uses.get(name) ?? []) walk(next, [...path, name]);
  done.add(name);
}
for (const name of names) walk(name, []);
for (const circle of circles) console.error(circle.map((path) => path.slice(src.length + 1)).join(" -> "));
console.log(`${names.length} modules, ${circles.length} circles`);
process.exit(circles.length > 0 ? 1 : 0);
