"""Serves the exported web pages: a static site that has, per page, the hashes of its own scripts.

A build is read whole when its `csp.json` changes, so a new build needs no restart and a page never meets another build's hashes.
Dynamic pages are exported once under the placeholder `_`; `routes.json` says which addresses they stand for.
"""

import asyncio
import gzip
import hashlib
import json
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from backend.kit.http import MethodNotAllowed
from backend.kit.problems import NotFound

IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
# Nothing below these is a page: who asks there is a program and gets a problem, not HTML.
PROGRAMS = ("/api/", "/health/", "/v1/", "/auth/v1/", "/.well-known/", "/mcp")

_POLICY = (
    "default-src 'self'; script-src 'self'{hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; frame-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_TYPES = {".txt": "text/x-component", ".js": "text/javascript", ".woff2": "font/woff2"}
_COMPRESSED = ("text/", "application/json", "image/svg+xml")
_SMALL = 1024  # bytes; below it compression costs more than it saves


@dataclass
class File:
    """One file of a build, ready to be sent. `policy` is there for pages alone."""

    body: bytes
    media_type: str
    cache: str
    etag: str
    policy: str | None = None
    zipped: bytes | None = None

    @property
    def worth_zipping(self) -> bool:
        """Whether it becomes noticeably smaller."""
        return len(self.body) >= _SMALL and self.media_type.startswith(_COMPRESSED)


@dataclass(frozen=True)
class Build:
    """One build of the pages, in memory. Only what is in `files` can be asked for, so no path leads out of it."""

    stamp: tuple[int, int]
    files: Mapping[str, File] = field(repr=False)
    routes: tuple[tuple[re.Pattern[str], str], ...] = ()

    def find(self, path: str) -> File | None:
        """The file of an address: itself, its page, or the page that stands for it."""
        for candidate in (path, f"{path}.html", f"{path.rstrip('/')}/index.html"):
            if candidate in self.files:
                return self.files[candidate]
        payload = path.endswith(".txt")
        page = path.removesuffix(".txt")
        for pattern, name in self.routes:
            if pattern.fullmatch(page):
                return self.files.get(f"{name}.txt" if payload else f"{name}.html")
        return None


def read_build(out: Path, stamp: tuple[int, int]) -> Build:
    """Read a build whole (a few MB). Raises `OSError` or `ValueError` while it is being written."""
    hashes: dict[str, list[str]] = json.loads((out / "csp.json").read_bytes())
    routes: list[dict[str, str]] = json.loads((out / "routes.json").read_bytes())
    files = {
        f"/{path.relative_to(out).as_posix()}": _read(out, path, hashes)
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
    for private in ("/csp.json", "/routes.json"):
        del files[private]
    return Build(stamp, files, tuple((re.compile(one["pattern"]), one["page"]) for one in routes))


def _read(out: Path, path: Path, hashes: Mapping[str, list[str]]) -> File:
    body = path.read_bytes()
    name = path.relative_to(out).as_posix()
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    policy = None
    if path.suffix == ".html":
        policy = _POLICY.format(hashes="".join(f" '{one}'" for one in hashes.get(name, ())))
    return File(
        body,
        f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type,
        IMMUTABLE if name.startswith("_next/static/") else REVALIDATE,
        f'"{hashlib.sha256(body).hexdigest()[:20]}"',
        policy,
    )


class WebPages:
    """The pages of the directory `out`, as an ASGI app. A build that is replaced is served from memory until the new one is whole."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._build: Build | None = None
        self._reading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith(PROGRAMS) or path == "/api":
            raise NotFound("There is nothing at this address.")
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed("A page can only be read.", headers={"Allow": "GET, HEAD"})
        await (await self._answer(scope, path))(scope, receive, send)

    async def _answer(self, scope: Scope, path: str) -> Response:
        if path.startswith("//"):  # to a browser that would be another host
            raise NotFound("There is nothing at this address.")
        if path != "/" and path.endswith("/"):
            query = scope["query_string"].decode("latin-1")
            return Response(
                status_code=308,
                headers={"Location": quote(path.rstrip("/")) + (f"?{query}" if query else "")},
            )
        build = await self._current()
        if build is None:
            return _secured(
                Response(_NOT_BUILT, 503, media_type="text/html"), _POLICY.format(hashes=""), scope
            )
        file = build.find(path)
        if file is not None:
            return await _send(file, 200, scope)
        missing = build.files.get("/404.html")
        if missing is None or path.startswith("/_next/"):
            raise NotFound("There is nothing at this address.")
        return await _send(missing, 404, scope)

    async def _current(self) -> Build | None:
        """The build as it lies there now; the last whole one while a new one is being written."""
        try:
            stat = (self._out / "csp.json").stat()
        except OSError:
            return self._build
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if self._build is None or self._build.stamp != stamp:
            async with self._reading:
                if self._build is None or self._build.stamp != stamp:
                    try:
                        self._build = await asyncio.to_thread(read_build, self._out, stamp)
                    except (OSError, ValueError, KeyError):
                        return self._build
        return self._build


async def _send(file: File, status: int, scope: Scope) -> Response:
    headers = Headers(scope=scope)
    if status == 200 and file.etag in headers.get("if-none-match", ""):
        response = Response(status_code=304)
    elif file.worth_zipping and "gzip" in headers.get("accept-encoding", ""):
        if file.zipped is None:
            file.zipped = await asyncio.to_thread(gzip.compress, file.body, 6, mtime=0)
        response = Response(file.zipped, status, {"Content-Encoding": "gzip"}, media_type=file.media_type)
    else:
        response = Response(file.body, status, media_type=file.media_type)
    response.headers["Cache-Control"] = file.cache if status == 200 else REVALIDATE
    response.headers["ETag"] = file.etag
    response.headers["Vary"] = "Accept-Encoding"
    return _secured(response, file.policy, scope)


def _secured(response: Response, policy: str | None, scope: Scope) -> Response:
    response.headers.update(_HEADERS)
    if policy is not None:
        response.headers["Content-Security-Policy"] = policy
    if scope["scheme"] == "https":
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    return response


_NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>VIBE</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<style>body{font:15px/24px system-ui,sans-serif;max-width:34rem;margin:12vh auto;padding:0 1rem}code{font:13px monospace}</style>
<h1>The pages are not built</h1>
<p>The server runs and its API answers. To see the product here, build its pages once:</p>
<p><code>make up</code>, or in <code>frontend/</code>: <code>npx --yes npm@10 ci &amp;&amp; npm run build</code></p>
<p>Then load this page again. The server needs no restart.</p></html>
"""


def mount_web(app: FastAPI, out: Path) -> None:
    """Serve the pages in `out` under every address that no route has taken. Call it after the last route."""
    app.mount("/", WebPages(out), name="web")
