"""HTTP of threads and their messages."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from backend.accounts.auth import Editor, Reader, Transaction
from backend.agent.schemas import MessagePage, NewThread, Thread, ThreadUpdate
from backend.agent.thread import service
from backend.kit.http import refusals
from backend.kit.pages import Page

router = APIRouter(prefix="/api/threads", tags=["threads"], responses=refusals(401, 403, 404))


@router.get("")
async def list_threads(
    session: Transaction, who: Reader, agent_id: UUID | None = None, cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Page[Thread]:
    """Threads, last touched first."""
    return await service.page(session, agent_id, cursor, limit)


@router.post("", status_code=201)
async def create_thread(new: NewThread, session: Transaction, who: Editor) -> Thread:
    """A thread with an agent. With an id that the client made, asking twice makes one."""
    return await service.create(session, new)


@router.get("/{thread_id}")
async def get_thread(thread_id: UUID, session: Transaction, who: Reader) -> Thread:
    """One thread, and what its runs took."""
    return await service.get(session, thread_id)


@router.patch("/{thread_id}")
async def update_thread(thread_id: UUID, update: ThreadUpdate, session: Transaction, who: Editor) -> Thread:
    """Rename a thread."""
    return await service.rename(session, thread_id, update.title)


@router.delete("/{thread_id}", status_code=204)
async def delete_thread(thread_id: UUID, session: Transaction, who: Editor) -> Response:
    """Delete a thread."""
    await service.delete(session, thread_id)
    return Response(status_code=204)


@router.get("/{thread_id}/messages")
async def list_messages(
    thread_id: UUID,
    session: Transaction,
    who: Reader,
    before_seq: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> MessagePage:
    """A page of messages, oldest first, ending before `before_seq` or at the newest."""
    return await service.messages(session, thread_id, before_seq, limit)
