"""A worker's courier: takes deliveries that are due, posts them, writes down what came of it.

A delivery is leased in its row. When a worker is lost in the middle, the lease ends and another one delivers: at least once, under the same id.
"""

import asyncio
import contextlib
import logging
from datetime import timedelta
from uuid import UUID

import aiohttp

from backend.kit.db import Database, DatabaseUnavailable, Row, Session
from backend.kit.problems import Problem
from backend.kit.seal import Sealer
from backend.services.webhooks import client, repository
from backend.services.webhooks.client import Attempt
from backend.services.webhooks.schemas import TEST_EVENT
from backend.services.webhooks.service import open_secret

log = logging.getLogger(__name__)
WAITS = tuple(timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 3600, 6 * 3600, 24 * 3600))
_GIVES_UP_AFTER = timedelta(days=5)
_AT_ONCE = 32
_SWEEP_SECONDS = 1.0


class Courier:
    """Delivers until it is cancelled; `poke` makes it look at once."""

    def __init__(self, database: Database, session: aiohttp.ClientSession, sealer: Sealer, *, lease: timedelta) -> None:
        self._database, self._session, self._sealer, self._lease = database, session, sealer, lease
        self._poked = asyncio.Event()
        self._under_way: dict[asyncio.Task[None], UUID] = {}

    def poke(self) -> None:
        """Something may be due: look soon."""
        self._poked.set()

    async def deliver_forever(self) -> None:
        """Look for what is due every second, when poked, and when an attempt has ended."""
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SWEEP_SECONDS):
                        await self._poked.wait()
                self._poked.clear()
                with contextlib.suppress(DatabaseUnavailable):  # which the sweep of runs reports
                    await self._take()
        finally:
            await self._leave()

    async def _take(self) -> None:
        room = _AT_ONCE - len(self._under_way)
        if room <= 0:
            return
        # A receiver has at most one claim's worth of attempts under way here, so that a slow one takes nobody's place.
        for row in await repository.claim(self._database, list(set(self._under_way.values())), room, self._lease):
            task = asyncio.create_task(self._deliver(row))
            self._under_way[task] = row["webhook_id"]
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._under_way[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a delivery failed inside the platform", exc_info=error)
        self.poke()

    async def _leave(self) -> None:
        """What is under way is broken off; its leases end by themselves."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, row: Row) -> None:
        attempt = await self._attempt(row)
        with contextlib.suppress(DatabaseUnavailable):  # then it is sent once more when the lease has ended
            async with self._database.transaction(row["account_id"]) as session:
                await _settle(session, row, attempt)

    async def _attempt(self, row: Row) -> Attempt:
        sealed = [secret for secret in (row["sealed"], row["sealed_before"]) if secret is not None]
        try:
            secrets = [open_secret(self._sealer, row["account_id"], row["webhook_id"], secret) for secret in sealed]
        except Problem as problem:
            return Attempt(None, "", f"{problem.title()}. {problem.detail}", 0)
        return await client.post(self._session, row["url"], secrets, str(row["delivery_id"]), row["body"])


async def _settle(session: Session, row: Row, attempt: Attempt) -> None:
    """Write down what an attempt came to, and what it says of the webhook."""
    tries, webhook_id = row["attempts"], row["webhook_id"]
    await repository.lock(session, webhook_id)
    again = tries <= len(WAITS) and row["event"] != TEST_EVENT and not attempt.is_accepted
    kept = await repository.settle(
        session,
        row["delivery_id"],
        row["claim"],
        status="delivered" if attempt.is_accepted else "pending" if again else "failed",
        wait=WAITS[tries - 1] if again else timedelta(0),
        answer_status=attempt.status,
        answer=attempt.answer,
        error=attempt.error,
        took_ms=attempt.took_ms,
    )
    if not kept or row["event"] == TEST_EVENT:
        return
    if attempt.is_accepted:
        await repository.mark_well(session, webhook_id)
        return
    await repository.mark_failing(session, webhook_id)
    if attempt.status == 410:
        await repository.disable(session, webhook_id, "The receiver says that it is gone (410).", timedelta(0))
    else:
        reason = f"Nothing could be delivered for {_GIVES_UP_AFTER.days} days. {attempt.error}"
        await repository.disable(session, webhook_id, reason, _GIVES_UP_AFTER)
