"""Threads and what stands in them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from backend.accounts.service import decode_moment
from backend.agent.schemas import Message, MessagePage, NewThread, Run, Thread, ThreadUsage
from backend.agent.thread import repository
from backend.agent.thread.attached import with_files
from backend.kit.db import Row, Session, enqueue
from backend.kit.ids import uuid7
from backend.kit.pages import Page, encode_cursor
from backend.kit.problems import NotFound

STOP_RUN = "agent.stop"


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


async def page(session: Session, agent_id: UUID | None, cursor: str | None, limit: int) -> Page[Thread]:
    """Threads, last touched first."""
    rows = await repository.threads(session, agent_id, decode_moment(cursor), limit + 1)
    items = await _threads(session, rows[:limit])
    more = encode_cursor(items[-1].updated_at.isoformat(), items[-1].thread_id) if len(rows) > limit else None
    return Page(items=items, next_cursor=more)


async def rename(session: Session, thread_id: UUID, title: str) -> Thread:
    """Give a thread the title a person chose."""
    if not await repository.rename_thread(session, thread_id, title.strip()):
        raise NotFound("There is no such thread.")
    return await get(session, thread_id)


async def delete(session: Session, thread_id: UUID) -> None:
    """Take a thread out of sight and stop its runs."""
    live = await repository.stop_runs(session, thread_id)
    if not await repository.delete_thread(session, thread_id):
        raise NotFound("There is no such thread.")
    for run_id in live:
        enqueue(session, STOP_RUN, run_id=run_id)


async def messages(session: Session, thread_id: UUID, before_seq: int | None, limit: int) -> MessagePage:
    """A page of a thread's messages, oldest first, ending before `before_seq` or at the newest."""
    await get(session, thread_id)
    rows = await with_files(session, await repository.messages(session, thread_id, before_seq, limit + 1))
    items = [Message.model_validate(_message(row)) for row in reversed(rows[:limit])]
    first = next((item.seq for item in items if item.seq is not None), None)
    return MessagePage(items=items, next_before_seq=first if len(rows) > limit else None)


def _message(row: Row) -> dict[str, Any]:
    return dict(row) | {"tool_calls": row["tool_calls"] or []}


async def _threads(session: Session, rows: Sequence[Row]) -> list[Thread]:
    """Threads with the run that is under way in each."""
    active = {run["thread_id"]: Run.model_validate(dict(run)) for run in await repository.active_runs(session, [row["thread_id"] for row in rows])}
    return [_thread(row, active.get(row["thread_id"])) for row in rows]


def _thread(row: Mapping[str, Any], active_run: Run | None) -> Thread:
    names = ("input_tokens", "output_tokens", "cost_micro_usd", "cost_known")
    usage = ThreadUsage(**{name: row[name] for name in names}) if row["input_tokens"] is not None else None
    return Thread(**{name: row[name] for name in _OWN}, active_run=active_run, usage=usage)


_OWN = ("thread_id", "agent_id", "agent_name", "number", "title", "created_at", "updated_at")
