"""Files that messages brought. Such a message says so in its own row, so that only those who read one ask for them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backend.agent.schemas import WITH_FILES
from backend.kit.db import Session
from backend.services.attachments import service as attachments


def have_files(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether any of these messages brought files."""
    return any(row["tool_name"] == WITH_FILES and row["role"] == "user" for row in rows)


async def with_files(session: Session, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The same messages; those that brought files have them as `attachments`. Without one nothing is asked."""
    if not have_files(rows):
        return list(rows)
    brought = await attachments.of_messages(session, [row["message_id"] for row in rows if have_files((row,))])
    return [
        dict(row) | {"attachments": brought.get(row["message_id"], []), "tool_name": None} if have_files((row,)) else row for row in rows
    ]
