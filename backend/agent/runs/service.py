"""Starting, stopping, retrying and answering for runs. A message and its run are one transaction; a wake-up leaves after it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from redis.asyncio import Redis

from backend.accounts.service import decode_moment
from backend.agent.context import files_message
from backend.agent.inference.base import ChatMessage
from backend.agent.inference.tokens import estimate_message
from backend.agent.runs import desk, repository
from backend.agent.schemas import TERMINAL, Approval, Decision, FileEntry, Folder, NewRun, Run, Step
from backend.agent.thread import repository as journal
from backend.agent.thread.attached import with_files
from backend.agent.views import approval_view, message_view, run_view, step_view
from backend.kit import tasks
from backend.kit.db import TAKEN, Database, Row, Session, enqueue
from backend.kit.ids import uuid7
from backend.kit.pages import Page, encode_cursor
from backend.kit.problems import Conflict, Gone, NotFound
from backend.services.attachments import service as attachments

WAKE = "agent.run"
STOP = "agent.stop"
_TITLE_LENGTH = 80


class ThreadBusy(Conflict):
    """This thread is answering another message"""


class MessageIdTaken(Conflict):
    """This message id is taken"""


class RunNotOver(Conflict):
    """The run has not ended yet"""


class NotTheNewest(Conflict):
    """Only the newest message can be answered once more"""


class CannotEdit(Conflict):
    """Only what a person said, and what is in the thread already, can be said in another way"""


class AnswerHasVersions(Conflict):
    """Other versions of the conversation go on from this answer"""


class AlreadyDecided(Conflict):
    """This was decided already"""


class ApprovalExpired(Gone):
    """Nobody answered in time, so it was not done"""


class AnotherAct(Conflict):
    """What you saw is not the act that waits"""


async def start(database: Database, account_id: UUID, thread_id: UUID, new: NewRun) -> Run:
    """Save a person's message and the run that answers it, where the thread goes on now or, in place of another message, on a new branch.

    The same message id twice is the same run.
    """
    if new.if_busy == "enqueue" and new.edits is None and not new.message.attachments:
        try:
            row = await repository.start_at_once(database, account_id, _start_of(thread_id, new, []))
        except TAKEN:
            raise _id_taken() from None
        if row is not None:
            tasks.send(WAKE, {"run_id": row["run_id"]})
            if not row["waits"]:
                return Run.model_validate(run_view(row))
    async with database.transaction(account_id) as session:
        return await start_within(session, thread_id, new)


async def start_within(session: Session, thread_id: UUID, new: NewRun) -> Run:
    """`start` as a part of a transaction."""
    said = new.message
    if await repository.lock_thread(session, thread_id) is None:
        raise NotFound("There is no such thread.")
    known = await repository.run_of_message(session, said.message_id, thread_id)
    if known is not None:
        return await get(session, known["run_id"])
    edited = None if new.edits is None else await _edited(session, thread_id, new.edits)  # looked at before it may be rolled back
    if new.if_busy != "enqueue":
        await _make_way(session, await repository.live_runs(session, thread_id), new)
    if edited is not None:
        await repository.add_branch(session, thread_id, edited, said.message_id)
    files = await attachments.attach(session, thread_id, said.message_id, said.attachments) if said.attachments else []
    try:
        row = await repository.start(session, _start_of(thread_id, new, files))
    except TAKEN:
        raise _id_taken() from None
    if row is None:
        raise _id_taken()
    if files:
        await repository.mark_files(session, said.message_id)
    enqueue(session, WAKE, run_id=row["run_id"])
    place = await repository.place(session, row["run_id"]) if row["waits"] else None
    return Run.model_validate(run_view(row, place))


def _id_taken() -> MessageIdTaken:
    return MessageIdTaken("Make a new id for the message and send it again.")


def _start_of(thread_id: UUID, new: NewRun, files: Sequence[Row]) -> repository.Start:
    said = new.message
    tokens = estimate_message(ChatMessage("user", said.content)) + (estimate_message(files_message(files)) if files else 0)
    return repository.Start(thread_id, said.message_id, said.content, tokens, _title(said.content), uuid7(), new.model)


async def _edited(session: Session, thread_id: UUID, message_id: UUID) -> Row:
    """A message that can be said in another way."""
    edited = await repository.message_to_edit(session, thread_id, message_id)
    if edited is None:
        raise NotFound("There is no such message in this thread.")
    if edited["role"] != "user" or edited["seq"] is None:
        raise CannotEdit("Choose a message of a person whose turn has begun.")
    return edited


async def _make_way(session: Session, live: list[Row], new: NewRun) -> None:
    """What a busy thread's policy does with the runs before this one."""
    match new.if_busy:
        case "enqueue":
            return
        case "reject" if live:
            raise ThreadBusy("Wait for its end, or send with if_busy = enqueue, interrupt or rollback.")
        case "reject":
            return
        case "interrupt" | "rollback":
            for run in live:
                await repository.stop(session, run["run_id"])
            for run in live:
                if new.if_busy == "rollback":
                    await repository.discard(session, run["run_id"], with_input=True)
                await repository.settle_input(session, run["run_id"])
                enqueue(session, STOP, run_id=run["run_id"])


async def stop(session: Session, run_id: UUID) -> Run:
    """Ask a run to stop; its partial answer is kept. Stopping one that has ended changes nothing."""
    await repository.stop(session, run_id)
    await repository.settle_input(session, run_id)
    enqueue(session, STOP, run_id=run_id)
    return await get(session, run_id)


async def retry(session: Session, run_id: UUID) -> Run:
    """A new run for the message of one that has ended; what the old one wrote is left out of the history."""
    old = await repository.run(session, run_id)
    if old is None:
        raise NotFound("There is no such run.")
    if old["status"] not in TERMINAL:
        raise RunNotOver("Stop it first, or wait for its end.")
    thread = await repository.lock_thread(session, old["thread_id"])
    if thread is None:
        raise NotFound("The thread was deleted.")
    if await repository.live_runs(session, old["thread_id"]):
        raise ThreadBusy("Another message is being answered; wait for its end.")
    if await repository.newest_question(session, old["thread_id"], old["branch"]) != old["input_message_id"]:
        raise NotTheNewest("Send the older one again as a new message, or edit it.")
    if await repository.has_forks(session, run_id):
        raise AnswerHasVersions("Edit the message that it answers instead: that makes one more version and keeps the others.")
    await repository.discard(session, run_id, with_input=False)
    row = await repository.add_run(session, uuid7(), thread, old["input_message_id"], old["model"], retry_of=run_id)
    enqueue(session, WAKE, run_id=row["run_id"])
    return Run.model_validate(run_view(row))


async def get(session: Session, run_id: UUID) -> Run:
    """One run; a queued one with its place."""
    row = await repository.run(session, run_id)
    if row is None:
        raise NotFound("There is no such run.")
    place = await repository.place(session, run_id) if row["status"] == "queued" else None
    return Run.model_validate(run_view(row, place))


async def require(database: Database, account_id: UUID, run_id: UUID) -> None:
    """`NotFound` unless the account has this run. One round trip."""
    if await repository.state(database, account_id, run_id) is None:
        raise NotFound("There is no such run.")


async def of_thread(session: Session, thread_id: UUID) -> list[Run]:
    """A thread's runs: those that have not ended first, then the newest."""
    if not await repository.thread_exists(session, thread_id):
        raise NotFound("There is no such thread.")
    rows = await repository.runs_of_thread(session, thread_id, 50)
    places = {row["run_id"]: await repository.place(session, row["run_id"]) for row in rows if row["status"] == "queued"}
    return [Run.model_validate(run_view(row, places.get(row["run_id"]))) for row in rows]


async def steps(session: Session, run_id: UUID) -> list[Step]:
    """A run's journal."""
    if await repository.run(session, run_id) is None:
        raise NotFound("There is no such run.")
    return [Step.model_validate(dict(row)) for row in await journal.steps(session, run_id)]


# Approvals ------------------------------------------------------------------------------------------------------------


async def approvals(session: Session, status: str | None, thread_id: UUID | None, cursor: str | None, limit: int) -> Page[Approval]:
    """Approvals: the waiting ones oldest first, any others newest first."""
    rows = await repository.approvals(session, status, thread_id, decode_moment(cursor), limit + 1)
    items = [Approval.model_validate(approval_view(row)) for row in rows[:limit]]
    more = encode_cursor(items[-1].created_at.isoformat(), items[-1].approval_id) if len(rows) > limit else None
    return Page(items=items, next_cursor=more)


async def approval(session: Session, approval_id: UUID) -> Approval:
    """One approval."""
    return Approval.model_validate(approval_view(await _approval(session, approval_id)))


async def decide(session: Session, approval_id: UUID, decision: Decision, user_id: UUID | None) -> Approval:
    """A person's answer, for the exact act he was shown and once. "Always" also writes a rule with its exact pattern."""
    row = await _approval(session, approval_id, lock=True)
    if row["status"] == "expired":
        raise ApprovalExpired("Ask the agent to try again if it is still wanted.")
    if row["status"] != "pending":
        raise AlreadyDecided(f"It is {row['status']}.")
    if decision.act_hash != row["act_hash"]:
        raise AnotherAct("Look at it again, then decide.")
    approved = decision.decision == "approve"
    if approved and decision.always and row["pattern"] is not None:
        await repository.add_rule(session, uuid7(), row["agent_id"], row["action"], row["pattern"], user_id)
    await repository.decide(session, approval_id, "approved" if approved else "denied", decision.note, user_id)
    enqueue(session, WAKE, run_id=row["run_id"])
    return await approval(session, approval_id)


async def _approval(session: Session, approval_id: UUID, *, lock: bool = False) -> Row:
    row = await repository.approval(session, approval_id, lock=lock)
    if row is None:
        raise NotFound("There is no such approval.")
    return row


# Watching -------------------------------------------------------------------------------------------------------------


async def snapshot(session: Session, run_id: UUID) -> dict[str, Any]:
    """A run so far as `stream.snapshot`, from Postgres alone: all but the words of an answer that is being written."""
    row = await repository.run(session, run_id)
    if row is None:
        raise NotFound("There is no such run.")
    place = await repository.place(session, run_id) if row["status"] == "queued" else None
    messages = await with_files(session, await journal.run_messages(session, run_id, row["input_message_id"]))
    return {
        "type": "stream.snapshot",
        "run": run_view(row, place),
        "messages": [message_view(message) for message in messages],
        "steps": [step_view(step) for step in await journal.steps(session, run_id)],
        "approvals": [approval_view(a) for a in await journal.approvals_of_run(session, run_id)],
        "partial": None,
        "outputs": {},
    }


# Workspace ------------------------------------------------------------------------------------------------------------


async def folder(session: Session, redis: "Redis", thread_id: UUID, path: str) -> Folder:
    """A folder of a thread's workspace."""
    if not await repository.thread_exists(session, thread_id):
        raise NotFound("There is no such thread.")
    answer = await desk.ask(redis, thread_id, "list", path)
    entries = [
        FileEntry(name=at.rsplit("/", 1)[-1], path=at, kind=_KINDS.get(kind, "other"), size=size, modified_at=datetime.fromtimestamp(modified, UTC))
        for at, kind, size, modified in answer.entries
    ]
    return Folder(path=path, entries=entries, truncated=answer.truncated)


async def file(session: Session, redis: "Redis", thread_id: UUID, path: str) -> bytes:
    """A file of a thread's workspace."""
    if not await repository.thread_exists(session, thread_id):
        raise NotFound("There is no such thread.")
    return (await desk.ask(redis, thread_id, "read", path)).data


_KINDS: dict[str, Literal["file", "folder", "link", "other"]] = {"file": "file", "dir": "folder", "symlink": "link"}


def _title(content: str) -> str:
    """A thread's first title: the beginning of its first message."""
    line = next((line.strip() for line in content.splitlines() if line.strip() and not line.startswith("#!")), "")
    return line if len(line) <= _TITLE_LENGTH else line[: _TITLE_LENGTH - 1].rsplit(" ", 1)[0] + "…"
