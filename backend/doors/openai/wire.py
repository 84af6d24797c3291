"""What both wires share: ids, server-sent events, and waiting for what is slow without letting the connection look dead."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

import orjson

from backend.agent.inference.base import Completed, ModelEvent
from backend.agent.inference.errors import UpstreamFailed

KEEP_ALIVE: Final = b": still here\n\n"
_MOST_UNREAD = 256  # events that are read ahead of a slow client
_reading: set[asyncio.Task[None]] = set()  # a task that nobody holds may vanish


def sse(body: Any, event: str | None = None) -> bytes:
    """One server-sent event."""
    data = b"data: " + orjson.dumps(body) + b"\n\n"
    return f"event: {event}\n".encode() + data if event else data


class Ended:
    """Nothing more comes; `error` says why when it is not the true end."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error


async def lively(events: AsyncGenerator[ModelEvent, None], seconds: float) -> AsyncGenerator[ModelEvent | None, None]:
    """The events as they come, and None whenever there was none for so many seconds.

    They are read in a task of their own, so that waiting for one can be given up without breaking it off; closing this ends them.
    """
    queue: asyncio.Queue[ModelEvent | Ended] = asyncio.Queue(_MOST_UNREAD)
    task = asyncio.create_task(_read(events, queue))
    _reading.add(task)
    task.add_done_callback(_reading.discard)
    try:
        while True:
            item: ModelEvent | Ended | None = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    item = await queue.get()
            if not isinstance(item, Ended):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                return
    finally:
        task.cancel()


async def _read(events: AsyncGenerator[ModelEvent, None], queue: "asyncio.Queue[ModelEvent | Ended]") -> None:
    error: Exception | None = None
    try:
        async with contextlib.aclosing(events):
            async for event in events:
                await queue.put(event)
    except Exception as raised:
        error = raised
    await queue.put(Ended(error))


async def whole(events: AsyncGenerator[ModelEvent, None]) -> Completed:
    """The whole answer, when it is there."""
    async with contextlib.aclosing(events):
        async for event in events:
            if isinstance(event, Completed):
                return event
    raise UpstreamFailed("The stream ended without an answer.")


async def begun(events: AsyncGenerator[ModelEvent | None, None]) -> AsyncIterator[ModelEvent | None]:
    """The same events, once the first is there: what fails before it raises here, while a status can still be sent."""
    first = await anext(events)

    async def all_of_them() -> AsyncGenerator[ModelEvent | None, None]:
        async with contextlib.aclosing(events):
            yield first
            async for event in events:
                yield event

    return all_of_them()
