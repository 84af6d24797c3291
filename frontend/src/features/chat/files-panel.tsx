"use client";

import { useEffect, useState } from "react";

import { fileUrl, useFileBlob, useFileText, useFolder } from "@/api/queries/files";
import type { components } from "@/api/schema";
import { Coloured } from "@/components/code-block";
import { ErrorState } from "@/components/error-state";
import { Button, IconButton } from "@/components/ui/button";
import { Empty } from "@/components/ui/empty";
import { IconClose, IconDownload, IconFile, IconFolder, IconImage, IconText, IconYaml } from "@/components/ui/icon";
import { SkeletonRows } from "@/components/ui/skeleton";
import { Dots } from "@/components/ui/terms";
import { cn } from "@/lib/cn";
import { bytes } from "@/lib/duration";
import { strings } from "@/lib/strings";

const t = strings.chat.files;

type FileEntry = components["schemas"]["FileEntry"];

const shownBytes = 200_000;
const readBytes = 2_000_000;
const images = /\.(png|jpe?g|gif|webp|svg|avif|ico)$/i;
const code: Record<string, string> = { py: "python", js: "javascript", ts: "typescript", tsx: "typescript", sh: "bash", yml: "yaml", md: "markdown", html: "xml", rs: "rust" };

const langOf = (path: string): string => {
  const end = path.split(".").at(-1)?.toLowerCase() ?? "";
  return code[end] ?? end;
};

function iconOf(entry: FileEntry): typeof IconFile {
  if (entry.kind === "folder") return IconFolder;
  if (images.test(entry.name)) return IconImage;
  if (/\.(md|txt|log|csv)$/i.test(entry.name)) return IconText;
  return /\.[a-z0-9]+$/i.test(entry.name) ? IconYaml : IconFile;
}

/** The workspace's own address inside the sandbox: paths may be told with it or without. */
const rootPath = /^\/workspace(\/|$)/;

const insideOf = (path: string): string[] => path.replace(rootPath, "").split("/").filter(Boolean);

/** The folder that is `depth` steps below the root, on the way to `path`. */
const folderAt = (path: string, depth: number): string => (depth === 0 ? "" : (rootPath.test(path) ? "/workspace/" : "") + insideOf(path).slice(0, depth).join("/"));

function Crumbs({ path, go }: { path: string; go: (path: string) => void }) {
  const parts = insideOf(path);
  if (parts.length === 0) return null;
  return (
    <nav className="mono-s muted row flex-wrap" aria-label={t.title}>
      <button type="button" className="link" onClick={() => go("")}>
        {t.root}
      </button>
      {parts.map((part, at) => (
        <span key={at} className="row g1">
          <span aria-hidden="true">/</span>
          <button type="button" className="link" onClick={() => go(folderAt(path, at + 1))}>
            {part}
          </button>
        </span>
      ))}
    </nav>
  );
}

function FileRow({ threadId, entry, on, open }: { threadId: string; entry: FileEntry; on: boolean; open: (entry: FileEntry) => void }) {
  const Icon = iconOf(entry);
  const folder = entry.kind === "folder";
  return (
    <li className={cn("file", on && "on")}>
      <button type="button" className="file-open" aria-pressed={on} onClick={() => open(entry)}>
        <Icon className="ic-s muted" aria-hidden="true" />
        <span className="trunc">
          {entry.name}
          {folder ? "/" : ""}
        </span>
        <Dots />
        <span className="muted nowrap">{folder ? t.folder : entry.kind === "link" ? t.link : bytes(entry.size)}</span>
      </button>
      {entry.kind === "file" ? (
        <a className="btn ghost s icon" href={fileUrl(threadId, entry.path)} download={entry.name} aria-label={t.downloadFile(entry.name)} title={t.downloadFile(entry.name)}>
          <IconDownload className="ic-s" aria-hidden="true" />
        </a>
      ) : null}
    </li>
  );
}

function TextPreview({ threadId, path }: { threadId: string; path: string }) {
  const text = useFileText(threadId, path);
  if (text.error) return <ErrorState error={text.error} onRetry={() => void text.refetch()} retrying={text.isFetching} />;
  if (text.data === undefined) return <SkeletonRows rows={3} />;
  if (text.data === null) return <p className="small muted">{t.binary}</p>;
  const shown = text.data.slice(0, shownBytes);
  return (
    <>
      <pre className="well mono preview" tabIndex={0} role="region" aria-label={t.preview(path)}>
        <Coloured code={shown} lang={langOf(path)} />
      </pre>
      {shown.length < text.data.length ? <p className="small muted mt-2">{t.cut(bytes(shownBytes))}</p> : null}
    </>
  );
}

const imageTypes: Record<string, string> = { svg: "image/svg+xml", jpg: "image/jpeg", ico: "image/x-icon" };

function ImagePreview({ threadId, path, name }: { threadId: string; path: string; name: string }) {
  const end = name.split(".").at(-1)?.toLowerCase() ?? "";
  const image = useFileBlob(threadId, path, imageTypes[end] ?? `image/${end}`);
  const [url, setUrl] = useState<string>();
  useEffect(() => {
    if (!image.data) return;
    const made = URL.createObjectURL(image.data);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [image.data]);
  if (image.error) return <ErrorState error={image.error} onRetry={() => void image.refetch()} retrying={image.isFetching} />;
  return url ? <img className="preview-img" src={url} alt={name} /> : <SkeletonRows rows={3} />;
}

function Preview({ threadId, path, size, close }: { threadId: string; path: string; size: number | undefined; close: () => void }) {
  const name = path.split("/").at(-1) ?? path;
  const tooLarge = size !== undefined && size > readBytes;
  return (
    <section aria-label={t.preview(name)} className="mt-4">
      <div className="sec-h">
        <h2 className="trunc">{name}</h2>
        <span className="push row g1">
          <Button size="s" variant="ghost" asChild>
            <a href={fileUrl(threadId, path)} download={name}>
              <IconDownload className="ic-s" aria-hidden="true" />
              {t.download}
            </a>
          </Button>
          <IconButton size="s" variant="ghost" label={t.closePreview} onClick={close}>
            <IconClose className="ic-s" aria-hidden="true" />
          </IconButton>
        </span>
      </div>
      <div className="mt-2">
        {images.test(name) && !tooLarge ? (
          <ImagePreview threadId={threadId} path={path} name={name} />
        ) : tooLarge ? (
          <p className="small muted">{t.tooLarge(bytes(size))}</p>
        ) : (
          <TextPreview threadId={threadId} path={path} />
        )}
      </div>
    </section>
  );
}

/** The thread's workspace: folders, a preview, downloads. `file` is one that was asked for from elsewhere on the page. */
export default function FilesPanel({ threadId, file, onFile }: { threadId: string; file: string | undefined; onFile: (path: string | undefined) => void }) {
  const [path, setPath] = useState("");
  const folder = useFolder(threadId, path, true);
  const entries = folder.data?.entries ?? [];
  const chosen = entries.find((entry) => entry.path === file);
  const open = (entry: FileEntry) => (entry.kind === "folder" ? setPath(entry.path) : onFile(entry.path));
  return (
    <div className="ws-pad">
      <Crumbs path={path} go={setPath} />
      {folder.error ? (
        <ErrorState error={folder.error} onRetry={() => void folder.refetch()} retrying={folder.isFetching} />
      ) : folder.data === undefined ? (
        <SkeletonRows rows={3} />
      ) : entries.length === 0 && path === "" ? (
        <Empty title={t.empty}>{t.emptyText}</Empty>
      ) : (
        <ul>
          {path ? (
            <li className="file">
              <button type="button" className="file-open" onClick={() => setPath(folderAt(path, insideOf(path).length - 1))}>
                <IconFolder className="ic-s muted" aria-hidden="true" />
                <span>..</span>
                <span className="sr-only">{t.up}</span>
              </button>
            </li>
          ) : null}
          {entries.map((entry) => (
            <FileRow key={entry.path} threadId={threadId} entry={entry} on={entry.path === file} open={open} />
          ))}
        </ul>
      )}
      {folder.data?.truncated ? <p className="small muted mt-2">{t.truncated}</p> : null}
      {file ? <Preview key={file} threadId={threadId} path={file} size={chosen?.size} close={() => onFile(undefined)} /> : null}
    </div>
  );
}
