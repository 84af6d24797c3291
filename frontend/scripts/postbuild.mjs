// After `next build`: what the server needs to serve `out/` under a strict policy.
//   csp.json     page -> the hashes of its inline scripts
//   routes.json  addresses with an id -> the page that was exported for them under the placeholder `_`
// It also keeps the assets of the build before, so that a tab that was open goes on working after an update.
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";

const out = new URL("../out/", import.meta.url).pathname;
const kept = new URL("../.next/kept/", import.meta.url).pathname;

const files = (dir) => (existsSync(dir) ? readdirSync(dir, { recursive: true, withFileTypes: true }) : [])
  .filter((entry) => entry.isFile())
  .map((entry) => relative(dir, join(entry.parentPath, entry.name)).split(sep).join("/"));

const pages = files(out).filter((name) => name.endsWith(".html"));

const csp = {};
for (const page of pages) {
  const scripts = readFileSync(join(out, page), "utf8").matchAll(/<script(?![^>]*\ssrc=)[^>]*>([\s\S]*?)<\/script>/g);
  const hashes = [...scripts].map(([, code]) => `sha256-${createHash("sha256").update(code).digest("base64")}`);
  csp[page] = [...new Set(hashes)];
}

const routes = pages
  .filter((page) => page.split("/").some((part) => part === "_" || part === "_.html"))
  .map((page) => page.replace(/\.html$/, ""))
  .map((page) => ({ page: `/${page}`, pattern: `/${page.split("/").map((part) => (part === "_" ? "[^/]+" : part)).join("/")}` }));

// The assets of this build are noted, those of the build before are laid beside them.
const mine = files(join(out, "_next/static"));
for (const name of files(kept)) {
  const target = join(out, "_next/static", name);
  if (!existsSync(target)) {
    mkdirSync(dirname(target), { recursive: true });
    cpSync(join(kept, name), target);
  }
}
rmSync(kept, { recursive: true, force: true });
for (const name of mine) {
  mkdirSync(dirname(join(kept, name)), { recursive: true });
  cpSync(join(out, "_next/static", name), join(kept, name));
}

writeFileSync(join(out, "routes.json"), JSON.stringify(routes, null, 1));
// Last: its time tells the server that a new build is whole.
writeFileSync(join(out, "csp.json"), JSON.stringify(csp, null, 1));
console.log(`${pages.length} pages, ${routes.length} with an id, ${Object.values(csp).flat().length} script hashes`);
