"""HTTP of runs, their events, approvals and workspaces."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from backend.accounts.auth import Decider, Editor, Reader, Transaction
from backend.agent.events import RunEvent
from backend.agent.runs import service
from backend.agent.runs.watch import Watch
from backend.agent.schemas import Approval, Decision, Folder, NewRun, Run, Step
from backend.agent.stream import EventId
from backend.kit.http import OnGround, refusals, room_for_work
from backend.kit.pages import Page

router = APIRouter(prefix="/api", tags=["runs"], responses=refusals(401, 403, 404))


@router.post("/threads/{thread_id}/runs", status_code=202, dependencies=[Depends(room_for_work)], responses=refusals(409, 507))
async def start_run(thread_id: UUID, new: NewRun, who: Editor, on: OnGround) -> Run:
    """Send a message; the answer is a run to watch. The same message id twice is the same run."""
    return await service.start(on.database, who.account_id, thread_id, new)


@router.get("/threads/{thread_id}/runs")
async def list_runs(thread_id: UUID, session: Transaction, who: Reader) -> list[Run]:
    """A thread's runs: those that have not ended first, then the newest fifty."""
    return await service.of_thread(session, thread_id)


@router.get("/runs/{run_id}")
async def get_run(run_id: UUID, session: Transaction, who: Reader) -> Run:
    """One run; a queued one with its place."""
    return await service.get(session, run_id)


@router.get("/runs/{run_id}/steps")
async def list_steps(run_id: UUID, session: Transaction, who: Reader) -> list[Step]:
    """A run's journal: every model call and tool call."""
    return await service.steps(session, run_id)


@router.post("/runs/{run_id}/stop", status_code=202)
async def stop_run(run_id: UUID, session: Transaction, who: Editor) -> Run:
    """Stop a run; what it has written is kept."""
    return await service.stop(session, run_id)


@router.post("/runs/{run_id}/retry", status_code=202, dependencies=[Depends(room_for_work)], responses=refusals(409, 507))
async def retry_run(run_id: UUID, session: Transaction, who: Editor) -> Run:
    """Answer the same message once more."""
    return await service.retry(session, run_id)


class _EventStream(StreamingResponse):
    """Server-sent events. No proxy may hold, compress or keep them."""

    media_type = "text/event-stream"


@router.get(
    "/runs/{run_id}/events",
    response_class=_EventStream,
    responses={200: {"model": RunEvent, "description": "Server-sent events; the data of each is one of these."}},
)
async def run_events(
    run_id: UUID, request: Request, who: Reader, on: OnGround, last_event_id: Annotated[str | None, Header()] = None
) -> StreamingResponse:
    """Watch a run. With `Last-Event-ID` it goes on where another connection, to any process, had stopped."""
    await service.require(on.database, who.account_id, run_id)
    watch: Watch = request.app.state.watch

    async def pieces() -> AsyncIterator[bytes]:
        yield b"retry: 1000\n\n"
        async for piece in watch.events(who.account_id, run_id, EventId.parse(last_event_id)):
            yield piece

    return _EventStream(pieces(), headers={"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"})


# Approvals ------------------------------------------------------------------------------------------------------------


@router.get("/approvals")
async def list_approvals(
    session: Transaction,
    who: Reader,
    status: Literal["pending", "approved", "denied", "expired", "used", "void"] | None = None,
    thread_id: UUID | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[Approval]:
    """Acts that wait for a person, oldest first; or decided ones, newest first; of all threads or of one."""
    return await service.approvals(session, status, thread_id, cursor, limit)


@router.get("/approvals/{approval_id}")
async def get_approval(approval_id: UUID, session: Transaction, who: Reader) -> Approval:
    """One approval with its exact act."""
    return await service.approval(session, approval_id)


@router.post("/approvals/{approval_id}/decision", responses=refusals(409))
async def decide_approval(approval_id: UUID, decision: Decision, session: Transaction, who: Decider) -> Approval:
    """Approve or deny, for the act whose hash is given, once."""
    return await service.decide(session, approval_id, decision, who.user_id)


# Workspace ------------------------------------------------------------------------------------------------------------


@router.get("/threads/{thread_id}/files")
async def list_workspace(thread_id: UUID, session: Transaction, who: Reader, on: OnGround, path: Annotated[str, Query(max_length=4096)] = "/workspace") -> Folder:
    """A folder of the thread's workspace."""
    return await service.folder(session, on.redis, thread_id, path)


@router.get(
    "/threads/{thread_id}/files/content",
    response_class=Response,
    responses=refusals(413) | {200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def read_workspace_file(thread_id: UUID, session: Transaction, who: Reader, on: OnGround, path: Annotated[str, Query(max_length=4096)]) -> Response:
    """A file of the thread's workspace, as bytes. A browser is told to treat it as a download without a type, for it comes from outside."""
    data = await service.file(session, on.redis, thread_id, path)
    name = quote(path.rsplit("/", 1)[-1])
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return Response(data, media_type="application/octet-stream", headers=headers)
