"""Threads and what stands in them."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from backend.accounts.service import claim
from backend.agent.schemas import (
    MessagePage,
    NewFork,
    NewThread,
    PlacedMessage,
    Run,
    Thread,
    ThreadUpdate,
    ThreadUsage,
)
from backend.agent.thread import repository
from backend.agent.thread.attached import with_files
from backend.kit.db import Row, Session, enqueue
from backend.kit.ids import uuid7
from backend.kit.pages import Page, decode_cursor, encode_cursor
from backend.kit.problems import Conflict, InvalidRequest, NotFound
from backend.services.attachments import service as attachments

STOP_RUN = "agent.stop"


class NotThereYet(Conflict):
    """This message waits for its turn"""


async def create(session: Session, new: NewThread) -> Thread:
    """A thread with an agent. With the id of one that is there already, that one."""
    thread_id = new.thread_id or uuid7()
    if not await repository.create_thread(session, thread_id, new.agent_id, new.title.strip()):
        known = await repository.thread(session, thread_id)
        if known is None or known["agent_id"] != new.agent_id:
            raise NotFound("There is no such agent.")
    return await get(session, thread_id)


async def seed(session: Session, thread_id: UUID, said: Sequence[tuple[Literal["user", "assistant"], str, int]]) -> None:
    """What was said elsewhere, each with its estimated tokens, becomes the beginning of a thread that is still empty."""
    rows = [{"n": n, "message_id": uuid7(), "role": role, "content": text, "tokens": tokens} for n, (role, text, tokens) in enumerate(said, 1)]
    if rows:
        await repository.seed(session, thread_id, rows)


async def get(session: Session, thread_id: UUID) -> Thread:
    """One thread, and what its runs took."""
    row = await repository.thread(session, thread_id)
    if row is None:
        raise NotFound("There is no such thread.")
    return (await _threads(session, [row]))[0]


async def page(
    session: Session, cursor: str | None, limit: int, *, agent_id: UUID | None = None, tag: str | None = None, archived: bool = False, deleted: bool = False
) -> Page[Thread]:
    """Threads: pinned ones first, then the last touched. Of deleted ones those that can be restored, the last deleted first."""
    before = _place(cursor)
    if deleted:
        rows = await repository.deleted_threads(session, agent_id, tag, before and before[1:], limit + 1)
    else:
        rows = await repository.threads(session, agent_id, tag, archived, before, limit + 1)
    items = await _threads(session, rows[:limit])
    more = None
    if len(rows) > limit:
        last = items[-1]
        more = encode_cursor(last.pinned, (last.deleted_at or last.updated_at).isoformat(), last.thread_id)
    return Page(items=items, next_cursor=more)


def _place(cursor: str | None) -> tuple[bool, datetime, UUID] | None:
    if cursor is None:
        return None
    try:
        pinned, at, id = decode_cursor(cursor, 3)
        return bool(pinned), datetime.fromisoformat(at), UUID(id)
    except (ValueError, TypeError, AttributeError):
        raise InvalidRequest("The cursor is not one of ours; start again without it.") from None


async def update(session: Session, thread_id: UUID, change: ThreadUpdate) -> Thread:
    """Title, pin, archive and tags as a person wants them; what is None stays. An archived thread is not in the list, but goes on as before."""
    title = None if change.title is None else change.title.strip()
    if not await repository.update_thread(session, thread_id, title, change.pinned, change.archived, change.tags):
        raise NotFound("There is no such thread.")
    return await get(session, thread_id)


async def delete(session: Session, thread_id: UUID) -> None:
    """Take a thread out of sight and stop its runs."""
    live = await repository.stop_runs(session, thread_id)
    if not await repository.delete_thread(session, thread_id):
        raise NotFound("There is no such thread.")
    for run_id in live:
        enqueue(session, STOP_RUN, run_id=run_id)


async def restore(session: Session, thread_id: UUID) -> Thread:
    """Take back a thread's deletion, for seven days. Its runs stay stopped."""
    if not await repository.restore_thread(session, thread_id):
        raise NotFound("There is no such thread to restore.")
    return await get(session, thread_id)


# Branches -------------------------------------------------------------------------------------------------------------


async def activate(session: Session, thread_id: UUID, message_id: UUID) -> Thread:
    """Go on with the branch that holds a message."""
    await get(session, thread_id)
    await repository.activate_branch(session, thread_id, (await _branch_of(session, thread_id, message_id))[0])
    return await get(session, thread_id)


async def fork(session: Session, thread_id: UUID, new: NewFork, key: str | None = None) -> Thread:
    """A new thread with the same agent and tags that begins as this one stands at a message: copies of the messages, without their runs."""
    thread = await get(session, thread_id)
    branch, seq = await _branch_of(session, thread_id, new.message_id)
    if seq is None:
        raise NotThereYet("Choose one whose turn has begun.")
    wanted = hashlib.sha256(f"fork {thread_id} {new.model_dump_json()}".encode()).digest()
    fork_id, fresh = await claim(session, key, wanted)
    if fresh:
        title = (new.title or "").strip() or thread.title
        if not await repository.create_thread(session, fork_id, thread.agent_id, title, thread.tags):
            raise NotFound("The thread's agent was deleted.")
        path = await repository.path_ids(session, thread_id, branch, seq)
        copies = [uuid7() for _ in path]
        await repository.copy_messages(session, thread_id, fork_id, path, copies)
        await attachments.copy(session, fork_id, path, copies)
    return await get(session, fork_id)


async def _branch_of(session: Session, thread_id: UUID, message_id: UUID) -> tuple[int, int | None]:
    row = await repository.place_of_message(session, thread_id, message_id)
    if row is None:
        raise NotFound("There is no such message in this thread.")
    return row["branch"], row["seq"]


# Messages -------------------------------------------------------------------------------------------------------------


async def messages(session: Session, thread_id: UUID, before_seq: int | None, limit: int, branch: int | None = None) -> MessagePage:
    """A page of the messages on a branch's path, oldest first, ending before `before_seq` or at the newest. None is the branch that goes on."""
    thread = await get(session, thread_id)
    if branch is None:
        branch = thread.active_branch
    elif not await repository.has_branch(session, thread_id, branch):
        raise NotFound("The thread has no such branch.")
    rows = await with_files(session, await repository.messages(session, thread_id, branch, before_seq, limit + 1))
    said = [row["message_id"] for row in rows[:limit] if row["role"] == "user"]
    versions = {row["message_id"]: row["versions"] for row in await repository.versions(session, thread_id, said)}
    items = [_message(row, versions.get(row["message_id"], [])) for row in reversed(rows[:limit])]
    first = next((item.seq for item in items if item.seq is not None), None)
    return MessagePage(branch=branch, items=items, next_before_seq=first if len(rows) > limit else None)


def _message(row: Row, siblings: list[UUID]) -> PlacedMessage:
    position = siblings.index(row["message_id"]) if siblings else 0
    return PlacedMessage.model_validate(dict(row) | {"tool_calls": row["tool_calls"] or [], "siblings": siblings, "position": position})


async def _threads(session: Session, rows: Sequence[Row]) -> list[Thread]:
    """Threads with the run that is under way in each."""
    active = {run["thread_id"]: Run.model_validate(dict(run)) for run in await repository.active_runs(session, [row["thread_id"] for row in rows])}
    return [_thread(row, active.get(row["thread_id"])) for row in rows]


def _thread(row: Mapping[str, Any], active_run: Run | None) -> Thread:
    names = ("input_tokens", "output_tokens", "cost_micro_usd", "cost_known")
    usage = ThreadUsage(**{name: row[name] for name in names}) if row["input_tokens"] is not None else None
    return Thread(**{name: row[name] for name in _OWN}, active_run=active_run, usage=usage)


_OWN = (
    "thread_id", "agent_id", "agent_name", "number", "title", "pinned", "archived", "tags", "active_branch", "created_at", "updated_at", "deleted_at",
)  # fmt: skip
