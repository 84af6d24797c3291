"use client";

import { memo, useState, type ComponentProps, type ReactNode } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import rehypeSanitize from "rehype-sanitize";
import remarkGfm from "remark-gfm";

import { strings } from "@/lib/strings";
import { CodeBlock } from "./code-block";
import { BlockSplitter, definitions, type Block } from "./markdown-blocks";
import { IconImage } from "./ui/icon";

const t = strings.chat.link;

/** Only what a reader may follow from a page of the product: the web and mail, whole addresses. Anything else is text. */
export function safeUrl(url: string): string | undefined {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    return undefined;
  }
  return ["http:", "https:", "mailto:"].includes(parsed.protocol) ? parsed.href : undefined;
}

const hostOf = (url: string): string => {
  const parsed = new URL(url);
  return parsed.protocol === "mailto:" ? parsed.pathname : parsed.host;
};

const textOf = (node: ReactNode): string =>
  typeof node === "string" ? node : Array.isArray(node) ? node.map(textOf).join("") : "";

/** A link that says where it leads when its words do not. */
function SafeLink({ href, children }: ComponentProps<"a">) {
  const url = href ? safeUrl(href) : undefined;
  if (!url) return <span>{children}</span>;
  const host = hostOf(url);
  const told = textOf(children).includes(host.replace(/^www\./, ""));
  return (
    <>
      <a className="link" href={url} target="_blank" rel="noopener noreferrer nofollow" title={t.to(host)}>
        {children}
      </a>
      {told ? null : <span className="mono-s muted"> ({host})</span>}
    </>
  );
}

/** Remote images never load by themselves: asking for one tells its host who reads. */
function ImageChip({ src, alt }: ComponentProps<"img">) {
  const url = typeof src === "string" ? safeUrl(src) : undefined;
  if (!url) return <span className="muted">{alt}</span>;
  return (
    <a className="badge max-w-full align-middle" href={url} target="_blank" rel="noopener noreferrer nofollow">
      <IconImage className="ic-s" aria-hidden="true" />
      <span className="trunc">{alt || t.image(hostOf(url))}</span>
      {alt ? <span className="mono-s muted trunc">{hostOf(url)}</span> : null}
    </a>
  );
}

interface CodeElement {
  props?: { className?: string; children?: ReactNode };
}

/** A code block inside a list or a quotation. */
function NestedCode({ children }: ComponentProps<"pre">) {
  const { className, children: code } = (children as CodeElement | undefined)?.props ?? {};
  const lang = /language-(\S+)/.exec(className ?? "")?.[1] ?? "";
  return <CodeBlock code={textOf(code).replace(/\n$/, "")} lang={lang} />;
}

const components: Components = {
  a: ({ href, children }) => <SafeLink href={href}>{children}</SafeLink>,
  img: ({ src, alt }) => <ImageChip src={src} alt={alt} />,
  pre: ({ children }) => <NestedCode>{children}</NestedCode>,
  h1: ({ children }) => <h3 className="prose-h1">{children}</h3>,
  h2: ({ children }) => <h3 className="prose-h2">{children}</h3>,
  h3: ({ children }) => <h4>{children}</h4>,
  h4: ({ children }) => <h5>{children}</h5>,
  h5: ({ children }) => <h6>{children}</h6>,
  table: ({ children }) => (
    <div className="tbl-wrap" tabIndex={0} role="region">
      <table className="tbl">{children}</table>
    </div>
  ),
};

interface MdNode {
  type: string;
  value?: string;
  children?: MdNode[];
}

/** Raw HTML is what somebody wrote, so it is shown, as letters. */
function htmlAsText() {
  const walk = (node: MdNode, inline: boolean): MdNode => {
    if (node.type === "html") {
      const text: MdNode = { type: "text", value: node.value };
      return inline ? text : { type: "paragraph", children: [text] };
    }
    if (!node.children) return node;
    const holdsText = !["root", "blockquote", "listItem", "list"].includes(node.type);
    return { ...node, children: node.children.map((child) => walk(child, holdsText)) };
  };
  return (tree: MdNode) => walk(tree, false);
}

const remark = [remarkGfm, htmlAsText as never];
const rehype = [rehypeSanitize];
// The components decide about addresses; without this the library would empty some before they see them.
const asIs = (url: string): string => url;

const MarkdownBlock = memo(function MarkdownBlock({ raw, defs }: { raw: string; defs: string }) {
  return (
    <ReactMarkdown remarkPlugins={remark} rehypePlugins={rehype} components={components} urlTransform={asIs}>
      {defs && raw.includes("]") ? `${raw}\n\n${defs}` : raw}
    </ReactMarkdown>
  );
});

function BlockView({ block, live, defs }: { block: Block; live: boolean; defs: string }) {
  if (block.code) return <CodeBlock code={block.code.text} lang={block.code.lang} live={live} />;
  return <MarkdownBlock raw={block.raw} defs={defs} />;
}

/** Markdown from a model: no raw HTML, no remote image, only web and mail links. While `live`, only the last block is read again. */
export const Markdown = memo(function Markdown({ text, live = false }: { text: string; live?: boolean }) {
  const [splitter] = useState(() => new BlockSplitter());
  const blocks = splitter.split(text);
  const defs = definitions(text);
  return (
    <div className="prose" data-slot="markdown">
      {blocks.map((block, at) => (
        <BlockView key={at} block={block} live={live && at === blocks.length - 1} defs={defs} />
      ))}
    </div>
  );
});
