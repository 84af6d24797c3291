"""Watching a run: first what the log still has, then what comes live; the same for every API process.

A watcher always ends in the right state: what Redis lost is sent as a snapshot, from the worker that holds the run or from Postgres, and a
run that ended unseen is found by looking.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from backend.agent.events import event
from backend.agent.runs import repository, service
from backend.agent.schemas import TERMINAL
from backend.agent.stream import (
    CONTROL_CHANNEL,
    EVENTS_CHANNEL,
    NOTHING,
    EventId,
    Frame,
    Hub,
    Mailbox,
    read_log,
    sse,
)
from backend.kit.db import Database, DatabaseUnavailable
from backend.kit.redis import LOST, Subscriber

log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0  # a watcher that hears nothing learns from Postgres within this time that its run has ended
_SOON_SECONDS = 0.25  # that a run may take to begin before its watcher gets a snapshot from Postgres
_KEEP_ALIVE_LOOKS = 7  # a comment is sent after so many silent looks
KEEP_ALIVE = b": still here\n\n"


class Watch:
    """An API process's part: one subscription for all its watchers, one look at Postgres for all silent ones."""

    def __init__(self, database: Database, redis: "Redis", redis_dsn: str) -> None:
        self._database = database
        self._redis = redis
        self._hub = Hub()
        self._subscriber = Subscriber(redis_dsn, {EVENTS_CHANNEL: self._hub.handle}, on_connect=self._reconnected)
        self._states: dict[UUID, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving = False

    async def start(self) -> None:
        """Subscribe and begin to look."""
        self._tasks = [asyncio.create_task(self._subscriber.run()), asyncio.create_task(self._look_forever())]

    def leave(self) -> None:
        """End every stream where it stands: the process ends, and its watchers go on at another one."""
        self._leaving = True
        self._hub.nudge()

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._subscriber.close()

    async def events(self, account_id: UUID, run_id: UUID, last: EventId) -> AsyncIterator[bytes]:
        """A run's server-sent events from `last` on, until its end. Pieces may hold several events."""
        mailbox = self._hub.watch(run_id)
        try:
            async for piece in self._follow(account_id, run_id, last, mailbox):
                yield piece
        finally:
            self._hub.leave(run_id, mailbox)

    async def _follow(self, account_id: UUID, run_id: UUID, at: EventId, mailbox: Mailbox) -> AsyncIterator[bytes]:
        logged = await self._logged(run_id, at)
        if logged is None:
            logged = await self._soon(mailbox)
        if logged is None:
            snapshot = await self._snapshot(account_id, run_id)
            yield sse(snapshot, NOTHING)
            if snapshot["run"]["status"] in TERMINAL:
                yield sse(_finished(snapshot["run"]))
                return
            logged, at = [], NOTHING
        elif logged:
            at = NOTHING if logged[0].opens else at  # an id that is not of this log says nothing of where its reader stands
        elif await repository.state(self._database, account_id, run_id) in TERMINAL:
            async for piece in self._ended(account_id, run_id, at):
                yield piece
            return
        silent, may_mend, gap = 0, True, False
        while not self._leaving:
            fresh = [frame for frame in logged if frame.id > at]
            deliver, ends = _in_order(fresh, at)
            if fresh and not deliver and may_mend:
                may_mend = False
                deliver, ends = _in_order(await self._logged(run_id, at) or [], at)
            if deliver:
                at, silent, may_mend, gap = deliver[-1].id, 0, True, False
                yield b"".join(frame.data for frame in deliver)
            gap = gap or bool(fresh and not deliver)
            if ends:
                return
            got, looked = await mailbox.take()
            logged = (await self._logged(run_id, at) or []) if got is None else got
            if not looked:
                continue
            silent, may_mend = silent + 1, True
            state = self._states.get(run_id)
            if state in TERMINAL and silent > 1:
                async for piece in self._ended(account_id, run_id, at):
                    yield piece
                return
            if gap:
                await self._ask_for_snapshot(run_id)
            if state == "queued":
                yield await self._place(account_id, run_id)
            elif silent % _KEEP_ALIVE_LOOKS == 0:
                yield KEEP_ALIVE

    async def _soon(self, mailbox: Mailbox) -> list[Frame] | None:
        """The beginning of a run that was only just asked for: its worker's first frames, if they come at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SOON_SECONDS):
                while (frames := (await mailbox.take())[0]) is not None:
                    begin = next((n for n, frame in enumerate(frames) if frame.opens), None)
                    if begin is not None:
                        return frames[begin:]
        return None

    async def _ended(self, account_id: UUID, run_id: UUID, at: EventId) -> AsyncIterator[bytes]:
        """The end of a run that ended unseen: what the log has of it, or a snapshot."""
        logged = await self._logged(run_id, at)
        deliver, ends = _in_order(logged or [], at)
        if deliver:
            yield b"".join(frame.data for frame in deliver)
        if not ends:
            snapshot = await self._snapshot(account_id, run_id)
            yield sse(snapshot, NOTHING)
            yield sse(_finished(snapshot["run"]))

    async def _logged(self, run_id: UUID, at: EventId) -> list[Frame] | None:
        try:
            return await read_log(self._redis, run_id, at)
        except LOST:
            return None

    async def _snapshot(self, account_id: UUID, run_id: UUID) -> dict[str, Any]:
        async with self._database.transaction(account_id, steady=True) as session:
            return await service.snapshot(session, run_id)

    async def _place(self, account_id: UUID, run_id: UUID) -> bytes:
        async with self._database.transaction(account_id) as session:
            return sse(event("run.queued", run_id=run_id, place=await repository.place(session, run_id)))

    async def _ask_for_snapshot(self, run_id: UUID) -> None:
        with contextlib.suppress(*LOST):
            await self._redis.publish(CONTROL_CHANNEL, f"resync {run_id}")

    async def _reconnected(self) -> None:
        self._hub.nudge()

    async def _look_forever(self) -> None:
        """One query for all watched runs, now and then: the truth, whatever was heard."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            watched = self._hub.watched
            if not watched:
                continue
            with contextlib.suppress(DatabaseUnavailable):
                async with self._database.transaction(None) as session:
                    self._states = await repository.states(session, watched)
            self._hub.looked()


def _in_order(frames: Sequence[Frame], at: EventId) -> tuple[list[Frame], bool]:
    """Those of `frames` that continue from `at` without a gap, or begin a newer generation; and whether the last one is the run's end."""
    deliver: list[Frame] = []
    for frame in frames:
        follows = frame.id.generation == at.generation and frame.id.n == at.n + 1
        opens = frame.opens and frame.id > at
        if follows or opens:
            if opens:
                deliver.clear()
            deliver.append(frame)
            at = frame.id
            if frame.ends:
                return deliver, True
    return deliver, False


def _finished(run: dict[str, Any]) -> dict[str, Any]:
    return event("run.finished", status=run["status"], problem=run["problem"], title=None)
