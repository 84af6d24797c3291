"""What can end a run, or the wait for a model or a tool, from outside: a stop, the deadline, a lost lease, a hand-over."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")
_CANCEL_SECONDS = 1.0  # how long a cancelled call may take to end before it is left behind


class Interrupted(Exception):
    """The run is to end, or to be let go, now"""


class Stopped(Interrupted):
    """Stopped by a person"""


class TimedOut(Interrupted):
    """The run worked as long as its limit allows"""


class HandOver(Interrupted):
    """This worker leaves in order; another one goes on"""


class WaitsForPerson(Interrupted):
    """An approval is waited for; the run is let go until then"""


class Interrupts:
    """The interruption of one run. Only the first counts."""

    def __init__(self) -> None:
        self._happened: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def set(self, error: Exception) -> None:
        """Interrupt."""
        if not self._happened.done():
            self._happened.set_result(error)

    def check(self) -> None:
        """Raise if it happened."""
        if self._happened.done():
            raise self._happened.result()

    async def guard(self, work: Awaitable[T], *, grace: float = 0.0) -> T:
        """Wait for `work`, but no longer than until an interruption, which cancels it; a hand-over gives it `grace` seconds."""
        task = asyncio.ensure_future(work)
        both: set[asyncio.Future[Any]] = {task, self._happened}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and grace and isinstance(self._happened.result(), HandOver):
                await asyncio.wait({task}, timeout=grace)
            if task.done():
                return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
        raise self._happened.result()
