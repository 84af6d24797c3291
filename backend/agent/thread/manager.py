"""ThreadManager: a thread's history and a run's journal, written in the run's name under its epoch."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from backend.agent.thread import repository
from backend.kit.db import Database, DatabaseUnavailable, Row, Session

T = TypeVar("T")
_WINDOW_ROWS = 2_000
_PATIENCE = 600.0  # seconds that what was finished waits for Postgres to come back; meanwhile nobody else can take the run
_AGAIN_SECONDS = 0.25


class LeaseLost(Exception):
    """Another worker has the run now; this one may not write one more row"""


class ThreadManager:
    """One thread, for the run that holds its lease. Every write checks the epoch and raises `LeaseLost`."""

    def __init__(self, thread_id: UUID, database: Database, account_id: UUID, run_id: UUID, epoch: int) -> None:
        self.thread_id = thread_id
        self.run_id = run_id
        self.epoch = epoch
        self._database = database
        self._account_id = account_id
        self.next_run: UUID | None = None  # that waits for this one's end
        self.title = ""  # of the thread, as it was at the run's end

    async def load(
        self, history_from: Callable[[Mapping[str, Any]], int], claimed: Mapping[str, Any] | None = None
    ) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
        """The run with all that running it needs, and the thread's newest messages, oldest first: from where `history_from` says, and of this run all.

        `claimed` is the run as it was claimed, when that was a moment ago. A message that waited for its turn gets its place in the thread.
        """
        if self.epoch > 1:
            await self._patiently(self._resume)
        run = claimed
        if run is None or self.epoch > 1:
            run = await self._until_written(lambda _: repository.load_run(self._database, self._account_id, self.run_id))
        if run is None or run["epoch"] != self.epoch:
            raise LeaseLost
        loaded = dict(run)
        if run["input_seq"] is None:
            place = await self._patiently(lambda session, _: repository.begin_turn(session, self.run_id, self.epoch, loaded["input_message_id"]))
            if place is None:
                raise LeaseLost
            loaded["input_seq"], loaded["thread_tokens"] = place["seq"], place["tokens_upto"]
        since = history_from(loaded)
        rows = await self._until_written(
            lambda _: repository.history(self._database, self._account_id, self.thread_id, since, _WINDOW_ROWS, self.run_id, loaded["input_message_id"], loaded["branch"])
        )
        return loaded, list(rows)

    async def _resume(self, session: Session, again: bool) -> None:
        await repository.resume_waiting(session, self.run_id)
        await repository.expire_approvals(session, self.run_id)

    async def journal(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The run's steps and approvals so far."""

        async def read(session: Session, again: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
            steps = [dict(row) for row in await repository.steps(session, self.run_id)]
            return steps, [dict(row) for row in await repository.approvals_of_run(session, self.run_id)]

        return await self._patiently(read)

    async def save_answer(self, message: dict[str, Any], *, approvals: Sequence[dict[str, Any]] = (), **totals: Any) -> None:
        """Write the assistant's message with its journal lines; fills in the message's `seq` and `created_at`."""

        async def write(again: bool) -> Row:
            if again and (before := await self._placed([message["message_id"]])):
                return before[0]
            row = await repository.save_answer(
                self._database, self._account_id, self.run_id, self.epoch, message=message, approvals=approvals, **totals
            )
            if row is None:
                raise LeaseLost
            return row

        saved = await self._until_written(write)
        message["seq"], message["created_at"] = saved["seq"], saved["created_at"]
        self.next_run, self.title = saved.get("next_run"), saved.get("title", "")

    async def save_results(self, results: list[dict[str, Any]], *, end: str | None = None, problem: dict[str, Any] | None = None) -> None:
        """Write tool results in order, and with `end` the run's end. Fills in `seq` and `created_at`."""

        ids = [result["message_id"] for result in results]

        async def write(on: Database | Session, saved: list[Row]) -> list[Row]:
            if results and not saved:
                saved = await repository.save_results(on, self._account_id, self.run_id, self.epoch, results)
            if len(saved) != len(results):
                raise LeaseLost
            return saved

        async def write_alone(again: bool) -> list[Row]:
            return await write(self._database, await self._placed(ids) if again and ids else [])

        async def write_and_end(session: Session, again: bool) -> list[Row]:
            saved = await write(session, await repository.placed(session, self.run_id, self.epoch, ids) if again else [])
            if not await repository.end_run(session, self.run_id, self.epoch, str(end), problem):
                raise LeaseLost
            after = await repository.after_run(session, self.thread_id)
            self.next_run, self.title = after["next_run"], after["title"]
            return saved

        written = await (self._until_written(write_alone) if end is None else self._patiently(write_and_end))
        rows = {row["message_id"]: row for row in written}
        for result in results:
            row = rows[result["message_id"]]
            result["seq"], result["created_at"] = row["seq"], row["created_at"]

    async def save_intent(self, call_id: str, act_hash: str) -> None:
        """Before an effect: what is about to happen."""

        async def write(session: Session, again: bool) -> None:
            if not await repository.save_intent(session, self.run_id, self.epoch, call_id, act_hash):
                raise LeaseLost

        await self._patiently(write)

    async def void_approval(self, call_id: str) -> None:
        """An approval of another act than the one at hand is worth nothing."""

        async def write(session: Session, again: bool) -> None:
            if not await repository.void_approval(session, self.run_id, self.epoch, call_id):
                raise LeaseLost

        await self._patiently(write)

    async def wait_for_approval(self) -> bool:
        """Let go of the run until a person answers; False when the answers are there already."""

        async def write(session: Session, again: bool) -> bool:
            waits = await repository.wait_for_approval(session, self.run_id, self.epoch)
            if waits is None:  # also when the first time was committed after all: the run is let go either way
                raise LeaseLost
            return waits

        return await self._patiently(write)

    async def _placed(self, message_ids: Sequence[UUID]) -> list[Row]:
        """Which of these were written after all when it was not heard."""
        async with self._database.transaction(self._account_id) as session:
            return await repository.placed(session, self.run_id, self.epoch, message_ids)

    async def _patiently(self, write: Callable[[Session, bool], Awaitable[T]]) -> T:
        """A transaction, as `_until_written` does it."""

        async def transaction(again: bool) -> T:
            async with self._database.transaction(self._account_id) as session:
                return await write(session, again)

        return await self._until_written(transaction)

    async def _until_written(self, write: Callable[[bool], Awaitable[T]]) -> T:
        """Write; when Postgres restarts in the middle, write again, telling `write` that the first time may have been committed."""
        deadline = time.monotonic() + _PATIENCE
        again = False
        while True:
            try:
                return await write(again)
            except DatabaseUnavailable:
                if time.monotonic() > deadline:
                    raise
                again = True
                await asyncio.sleep(_AGAIN_SECONDS)
