"""What people and agents said, found by words: newest first, with the places that match."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from backend.accounts.service import decode_moment
from backend.agent.schemas import SearchHit, SearchPart
from backend.agent.thread import repository
from backend.kit.db import Session, storable
from backend.kit.pages import Page, encode_cursor

_LAST_WORD = re.compile(r"(?:(?P<head>.*)\s)?(?P<word>[^\W_]{3,})", re.DOTALL)  # alone between spaces: no operator, no quote


async def search(
    session: Session, q: str, cursor: str | None, limit: int, *, agent_id: UUID | None = None, tag: str | None = None
) -> Page[SearchHit]:
    """Messages with all the words of `q`, the last of which may be a word's beginning. `"a phrase"`, `or` and `-without` are understood."""
    head, prefix = _parsed(storable(q))
    before: tuple[datetime, UUID] | None = decode_moment(cursor)
    rows = await repository.search(session, head, prefix, agent_id, tag, before, limit + 1)
    shown = rows[:limit]
    texts = await repository.headlines(session, head, prefix, [row["message_id"] for row in shown])
    items = [_hit(row, texts[row["message_id"]]) for row in shown]
    more = encode_cursor(items[-1].created_at.isoformat(), items[-1].message_id) if len(rows) > limit else None
    return Page(items=items, next_cursor=more)


def _parsed(q: str) -> tuple[str, str]:
    """The query without its last word, and that word when it may be the beginning of a longer one."""
    q = q.strip()
    found = _LAST_WORD.fullmatch(q)
    if found is None or q.count('"') % 2 or (found["head"] or "").lower().split()[-1:] == ["or"]:
        return q, ""
    return found["head"] or "", found["word"]


def _hit(row: Mapping[str, Any], headline: str) -> SearchHit:
    parts = []
    for n, piece in enumerate(re.split(f"[{repository.MARK_BEGIN}{repository.MARK_END}]", headline)):
        if piece:
            parts.append(SearchPart(text=piece, match=n % 2 == 1))
    return SearchHit(**dict(row), parts=parts)
