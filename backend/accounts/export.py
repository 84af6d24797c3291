"""Everything an account has, as one ZIP: each table as JSON, and what floors above add in formats that people read.

Tables and columns come from the catalogue, so that a table that comes later is in it by itself; what must stay secret is left out by its type
and its name. All of it is read at one moment, and written to a file, so that no connection is held while somebody downloads.
"""

import asyncio
import re
import zipfile
from collections.abc import AsyncIterator, Callable
from typing import IO

import orjson
from redis.asyncio import Redis

from backend import __version__
from backend.accounts import repository
from backend.accounts.members import members
from backend.accounts.service import Caller, audit
from backend.kit import limits
from backend.kit.clock import iso, now
from backend.kit.db import Database, Session

FORMAT, VERSION = "vibe-account-export", 1
# Bytes are hashes and sealed secrets, a `tsvector` is made from other columns.
_LEFT_OUT_TYPES = frozenset({"bytea", "tsvector"})
_SECRET = re.compile(r"password|secret|sealed|token|hash|signature|hint")
_TEXTS = frozenset({"text", "varchar", "jsonb"})

# What another domain adds: files as (path in the archive, its text).
Part = Callable[[Session], AsyncIterator[tuple[str, str]]]


async def write(database: Database, redis: Redis, who: Caller, parts: tuple[Part, ...], target: IO[bytes]) -> None:
    """Write the caller's account into `target`. Raises `TooManyRequests`: it is much work."""
    await limits.hit(redis, f"export:{who.account_id}", limit=30, seconds=3600)
    async with database.transaction(who.account_id) as session:
        await audit(session, who.user_id, "account.exported", str(who.account_id))
    async with database.transaction(who.account_id, steady=True) as session:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
            counts = {name: await _table(session, archive, name, columns) for name, columns in (await _columns(session)).items()}
            people = [member.model_dump(mode="json") for member in await members(session)]
            _file(archive, "members.json", orjson.dumps(people, option=orjson.OPT_INDENT_2))
            for part in parts:
                async for path, text in part(session):
                    await asyncio.to_thread(_file, archive, path, text.encode())
            about = {"format": FORMAT, "version": VERSION, "product": __version__, "account_id": str(who.account_id), "exported_at": iso(now()),
                     "rows": counts}  # fmt: skip
            _file(archive, "export.json", orjson.dumps(about, option=orjson.OPT_INDENT_2))


async def _columns(session: Session) -> dict[str, list[str]]:
    """The tables and the columns of them that are no secret."""
    found: dict[str, list[str]] = {}
    for row in await repository.tenant_columns(session):
        is_secret = row["type"] in _LEFT_OUT_TYPES or (row["type"] in _TEXTS and _SECRET.search(row["column"]) is not None)
        if not is_secret:
            found.setdefault(row["table"], []).append(row["column"])
    return found


async def _table(session: Session, archive: zipfile.ZipFile, name: str, columns: list[str]) -> int:
    """One table as a JSON array, a row a line; how many rows."""
    count = 0
    with archive.open(f"tables/{name}.json", "w", force_zip64=True) as file:
        file.write(b"[")
        async for rows in repository.table_rows(session, name, columns):
            lines = ",".join(f"\n{row['row']}" for row in rows)
            await asyncio.to_thread(file.write, (("," if count else "") + lines).encode())
            count += len(rows)
        file.write(b"\n]\n")
    return count


def _file(archive: zipfile.ZipFile, path: str, data: bytes) -> None:
    archive.writestr(path, data)
