"""HTTP of threads and their messages."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response

from backend.accounts.auth import Editor, Reader, Transaction
from backend.agent.schemas import (
    BranchChoice,
    MessagePage,
    NewFork,
    NewThread,
    SearchHit,
    Thread,
    ThreadUpdate,
)
from backend.agent.thread import search, service
from backend.kit.http import refusals
from backend.kit.pages import Page

router = APIRouter(prefix="/api/threads", tags=["threads"], responses=refusals(401, 403, 404))
IdempotencyKey = Annotated[str | None, Header(alias="idempotency-key", min_length=1, max_length=200)]


@router.get("")
async def list_threads(
    session: Transaction,
    who: Reader,
    agent_id: UUID | None = None,
    tag: Annotated[str | None, Query(max_length=50)] = None,
    archived: bool = False,
    deleted: bool = False,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[Thread]:
    """Threads: pinned ones first, then the last touched. Or those that were deleted within the last seven days."""
    return await service.page(session, cursor, limit, agent_id=agent_id, tag=tag, archived=archived, deleted=deleted)


@router.post("", status_code=201)
async def create_thread(new: NewThread, session: Transaction, who: Editor) -> Thread:
    """A thread with an agent. With an id that the client made, asking twice makes one."""
    return await service.create(session, new)


@router.get("/search")
async def search_threads(
    session: Transaction,
    who: Reader,
    q: Annotated[str, Query(max_length=300)] = "",
    agent_id: UUID | None = None,
    tag: Annotated[str | None, Query(max_length=50)] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=50)] = 20,
) -> Page[SearchHit]:
    """What people and agents said, newest first. The last word may be a word's beginning; "a phrase", or and -without are understood."""
    return await search.search(session, q, cursor, limit, agent_id=agent_id, tag=tag)


@router.get("/{thread_id}")
async def get_thread(thread_id: UUID, session: Transaction, who: Reader) -> Thread:
    """One thread, and what its runs took."""
    return await service.get(session, thread_id)


@router.patch("/{thread_id}")
async def update_thread(thread_id: UUID, update: ThreadUpdate, session: Transaction, who: Editor) -> Thread:
    """Rename, pin, archive or tag a thread."""
    return await service.update(session, thread_id, update)


@router.delete("/{thread_id}", status_code=204)
async def delete_thread(thread_id: UUID, session: Transaction, who: Editor) -> Response:
    """Delete a thread; for seven days it can be restored."""
    await service.delete(session, thread_id)
    return Response(status_code=204)


@router.post("/{thread_id}/restore")
async def restore_thread(thread_id: UUID, session: Transaction, who: Editor) -> Thread:
    """Take back a thread's deletion."""
    return await service.restore(session, thread_id)


@router.put("/{thread_id}/branch")
async def choose_branch(thread_id: UUID, choice: BranchChoice, session: Transaction, who: Editor) -> Thread:
    """Go on with the branch that holds a message."""
    return await service.activate(session, thread_id, choice.message_id)


@router.post("/{thread_id}/fork", status_code=201, responses=refusals(409))
async def fork_thread(thread_id: UUID, new: NewFork, session: Transaction, who: Editor, idempotency_key: IdempotencyKey = None) -> Thread:
    """A new thread that begins as this one stands at a message."""
    return await service.fork(session, thread_id, new, idempotency_key)


@router.get("/{thread_id}/messages")
async def list_messages(
    thread_id: UUID,
    session: Transaction,
    who: Reader,
    before_seq: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    branch: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None,
) -> MessagePage:
    """A page of messages, oldest first, ending before `before_seq` or at the newest; of the branch that goes on, or of another."""
    return await service.messages(session, thread_id, before_seq, limit, branch)
