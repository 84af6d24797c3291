"""What the commands share that ask a running product over its HTTP API: who asks, where, and how answers are shown."""

import json
import os
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import aiohttp
import typer

from backend.cli import people
from backend.cli.place import NotHere, Place
from backend.cli.talk import Talk, printable
from backend.kit.settings import settings

Url = Annotated[str | None, typer.Option(help="Where the product is; without it the one that runs here.")]
Json = Annotated[bool, typer.Option("--json", help="The API's own answer, for programs.")]


@asynccontextmanager
async def product(url: str | None) -> AsyncIterator[Talk]:
    """The product's API, in the name of VIBE_API_KEY or of this machine's own key. Raises `NotHere` when none runs here."""
    place = Place(settings(), print)
    address = url or place.directory.address()
    if address is None:
        raise NotHere(f"No product runs on {place.directory.path}. Start it with `vibe up`, or name it with --url.")
    secret = os.environ.get("VIBE_API_KEY") or await people.cli_key(place)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {secret}"}, timeout=timeout) as http:
        yield Talk(http, address)


async def pages(talk: Talk, path: str) -> list[dict[str, Any]]:
    """All items of a list, page after page."""
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        mark = "&" if "?" in path else "?"
        page = await talk.call("GET", f"{path}{mark}limit=100{f'&cursor={cursor}' if cursor else ''}")
        items += page["items"]
        cursor = page["next_cursor"] or ""
        if not cursor:
            return items


def show(answer: Any, as_json: bool, columns: Mapping[str, str] | None = None) -> None:
    """An answer as JSON, or items as a table of `columns` (title by member)."""
    if as_json:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
        return
    rows: Iterable[Mapping[str, Any]] = answer if isinstance(answer, list) else [answer]
    titles = columns or {name: name for name in next(iter(rows), {})}
    cells = [list(titles.values()), *([_cell(row.get(name)) for name in titles] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(titles))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if len(cells) == 1:
        print("(none)", file=sys.stderr)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = printable(" ".join(text.split()))
    return text if len(text) <= 60 else text[:59] + "…"
