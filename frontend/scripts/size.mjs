// The budget: every script a page's HTML names, gzipped. Over it the build fails. The aim is what we want to come down to.
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const kB = 1000;
const budgets = { shared: 134 * kB, route: 186 * kB, thread: 212 * kB, out: 4000 * kB };
const aims = { shared: 115 * kB, route: 170 * kB, thread: 205 * kB, out: 3000 * kB };

const out = new URL("../out/", import.meta.url).pathname;
if (!existsSync(join(out, "csp.json"))) throw new Error("There is no build in out/: run `npm run build` first.");

const entries = readdirSync(out, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
const all = entries.map((entry) => join(entry.parentPath, entry.name));
const zipped = new Map();
const weigh = (src) => {
  if (!zipped.has(src)) zipped.set(src, gzipSync(readFileSync(join(out, decodeURIComponent(src))), { level: 9 }).length);
  return zipped.get(src);
};

const pages = all
  .filter((path) => path.endsWith(".html"))
  .map((path) => {
    const html = readFileSync(path, "utf8");
    // `noModule` is for browsers that never see this product.
    const scripts = [...html.matchAll(/<script[^>]*\ssrc="([^"?]+)[^>]*>/g)].filter(([whole]) => !/nomodule/i.test(whole));
    const srcs = new Set(scripts.map(([, src]) => src));
    return { name: path.slice(out.length - 1).replace(/\.html$/, ""), srcs };
  });
const common = [...pages[0].srcs].filter((src) => pages.every((page) => page.srcs.has(src)));
const sum = (srcs) => [...srcs].reduce((total, src) => total + weigh(src), 0);

const rows = [
  { name: "shared by all", size: sum(common), part: "shared" },
  ...pages.map((page) => ({ name: page.name, size: sum(page.srcs), part: page.name.startsWith("/threads/_") ? "thread" : "route" })),
  { name: "out/", size: all.reduce((total, path) => total + statSync(path).size, 0), part: "out" },
];
for (const { name, size, part } of rows) {
  const verdict = size > budgets[part] ? "OVER" : size > aims[part] ? "high" : "  ok";
  console.log(`${verdict}  ${(size / kB).toFixed(1).padStart(7)} of ${budgets[part] / kB} kB (aim ${aims[part] / kB})  ${name}`);
}
process.exit(rows.some(({ size, part }) => size > budgets[part]) ? 1 : 0);
