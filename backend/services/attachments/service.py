"""Attachments: uploaded, read, brought by messages, tidied away."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from backend.accounts import service as accounts
from backend.kit.db import Database, Row, Session
from backend.kit.problems import Gone, InvalidRequest, NotFound
from backend.services.attachments import repository
from backend.services.attachments.blobs import Blobs
from backend.services.attachments.schemas import FOLDER, Attachment

_LONGEST_NAME = 150
_AT_ONCE = 1_000
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f/\\\u202a-\u202e\u2066-\u2069]")


class EmptyFile(InvalidRequest):
    """The file is empty"""


async def store(
    database: Database, blobs: Blobs, pieces: AsyncIterator[bytes], account_id: UUID, by: UUID, *, name: str, claimed: str, most: int, key: str | None = None
) -> Attachment:
    """Keep a file as it comes. With an Idempotency-Key asking twice makes one. No connection is held while bytes arrive. Raises `TooLarge`, `EmptyFile`."""
    sha256, size, sniffer = await blobs.keep(pieces, most)
    if not size:
        raise EmptyFile("Choose one that holds something.")
    name = safe_name(name)
    media_type = sniffer.media_type(name, claimed)
    async with database.transaction(account_id) as session:
        attachment_id, is_new = await accounts.claim(session, key, hashlib.sha256(b"attachment" + sha256 + name.encode()).digest())
        if is_new:
            await repository.add(session, attachment_id, sha256, size, name, media_type, sniffer.excerpt(media_type), by)
        return Attachment.model_validate(dict(await _attachment(session, attachment_id)))


async def find(session: Session, blobs: Blobs, attachment_id: UUID) -> tuple[Attachment, Path, str]:
    """An attachment, where its content lies, and the content's hash in hex. Raises `Gone` when the disk has lost it."""
    row = await _attachment(session, attachment_id)
    path = blobs.path(row["sha256"])
    if not await asyncio.to_thread(path.exists):
        raise Gone("Its content is not in the data directory.")
    return Attachment.model_validate(dict(row)), path, row["sha256"].hex()


async def attach(session: Session, thread_id: UUID, message_id: UUID, attachment_ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """What a message brings that is written next, in this transaction: rows as `of_messages` has them. Raises `NotFound`."""
    rows = await repository.attach(session, thread_id, message_id, list(dict.fromkeys(attachment_ids)), FOLDER)
    missing = set(attachment_ids) - {row["attachment_id"] for row in rows}
    if missing:
        raise NotFound(f"There is no attachment {min(map(str, missing))}. Upload it again: what no message has is forgotten after a day.")
    return [dict(row) for row in rows]


async def of_messages(session: Session, message_ids: Sequence[UUID]) -> dict[UUID, list[dict[str, Any]]]:
    """What messages brought, in order: `attachment_id, name, media_type, size, excerpt, sha256, path`."""
    found: dict[UUID, list[dict[str, Any]]] = {}
    for row in await repository.of_messages(session, message_ids, FOLDER):
        found.setdefault(row["message_id"], []).append(dict(row))
    return found


async def copy(session: Session, to_thread: UUID, old: Sequence[UUID], new: Sequence[UUID]) -> None:
    """What messages brought, their copies in another thread bring too."""
    await repository.copy(session, to_thread, old, new)


async def tidy(database: Database, blobs: Blobs) -> int:
    """Forget what no message has, then remove contents that nobody names; how many."""
    await repository.forget_unused(database)
    old, removed = await asyncio.to_thread(blobs.old), 0
    for start in range(0, len(old), _AT_ONCE):
        removed += await asyncio.to_thread(blobs.remove, await repository.nobodys(database, old[start : start + _AT_ONCE]))
    return removed


def safe_name(name: str) -> str:
    """A file name that is one in every folder: no path, no control or direction characters, not too long, its ending kept."""
    name = _UNFIT.sub("_", name.replace("\\", "/").rpartition("/")[2]).strip().lstrip(".") or "file"
    stem, dot, ending = name.rpartition(".")
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    ending = f"{dot}{ending}" if dot and len(ending) <= 10 else ""
    kept = (stem if ending else name).encode()[: _LONGEST_NAME - len(ending.encode())]
    return kept.decode(errors="ignore") + ending


async def _attachment(session: Session, attachment_id: UUID) -> Row:
    row = await repository.attachment(session, attachment_id)
    if row is None:
        raise NotFound("There is no such attachment.")
    return row
