/** Colours for code: loaded when the first code block is on screen. */
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import markdown from "highlight.js/lib/languages/markdown";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";

const languages = { bash, css, diff, go, javascript, json, markdown, python, rust, sql, typescript, xml, yaml };
for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language);

/** What the highlighter's tree is made of. */
interface Scope {
  scope?: string;
  children: (Scope | string)[];
}

export interface Piece {
  text: string;
  className: string;
}

const classes: Record<string, string> = {
  keyword: "s-kw",
  built_in: "s-kw",
  literal: "s-kw",
  type: "s-kw",
  tag: "s-kw",
  name: "s-kw",
  section: "s-fn",
  title: "s-fn",
  "title.function": "s-fn",
  "title.class": "s-fn",
  attr: "s-fn",
  string: "s-str",
  regexp: "s-str",
  addition: "s-kw",
  deletion: "s-del",
  number: "s-nu",
  symbol: "s-nu",
  variable: "s-nu",
  comment: "s-com",
  quote: "s-com",
  meta: "s-com",
};

function walk(node: Scope, outer: string, pieces: Piece[]): void {
  const own = node.scope ? (classes[node.scope] ?? classes[node.scope.split(".")[0] ?? ""] ?? outer) : outer;
  for (const child of node.children) {
    if (typeof child !== "string") walk(child, own, pieces);
    else if (child) pieces.push({ text: child, className: own });
  }
}

/** Code in coloured pieces; undefined when the language is not known. Their texts joined are the code. */
export function highlight(code: string, lang: string): Piece[] | undefined {
  if (!hljs.getLanguage(lang)) return undefined;
  const result = hljs.highlight(code, { language: lang, ignoreIllegals: true });
  const pieces: Piece[] = [];
  walk((result._emitter as unknown as { rootNode: Scope }).rootNode, "", pieces);
  return pieces;
}
