"""Rate limits: fixed windows counted in Redis, and in this process while Redis is away.

`hit` guards what a stranger may try, and asks Redis each time. `Meter` counts every request, and asks Redis only now and then.
"""

import asyncio
import contextlib
import math
import time
from dataclasses import dataclass

from redis.asyncio import Redis

from backend.kit.problems import TooManyRequests
from backend.kit.redis import LOST

_local: dict[str, tuple[int, float]] = {}


async def hit(redis: "Redis", name: str, *, limit: int, seconds: int) -> None:
    """Count one use of `name`; `TooManyRequests` with Retry-After beyond `limit` uses in the window of `seconds`."""
    key = f"vibe:limit:{name}"
    try:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.incr(key)
            pipe.expire(key, seconds, nx=True)
            pipe.ttl(key)
            count, _, left = await pipe.execute()
    except LOST:
        count, left = _hit_locally(key, seconds)
    if count > limit:
        wait = max(1, int(left))
        raise TooManyRequests(f"Try again in {wait} seconds.", headers={"Retry-After": str(wait)})


async def clear(redis: "Redis", name: str) -> None:
    """Forget the uses of `name`."""
    key = f"vibe:limit:{name}"
    _local.pop(key, None)
    try:
        await redis.delete(key)
    except LOST:
        return


def _hit_locally(key: str, seconds: int) -> tuple[int, int]:
    now = time.monotonic()
    if len(_local) > 10_000:
        for stale in [name for name, (_, until) in _local.items() if until < now]:
            del _local[stale]
    count, until = _local.get(key, (0, now + seconds))
    if until < now:
        count, until = 0, now + seconds
    _local[key] = (count + 1, until)
    return count + 1, math.ceil(until - now)


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of a minute's requests is left. `reset` is in seconds."""

    limit: int
    remaining: int
    reset: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The standard headers (IETF draft "RateLimit header fields for HTTP")."""
        pairs = ((b"ratelimit-limit", self.limit), (b"ratelimit-remaining", self.remaining), (b"ratelimit-reset", self.reset))
        return [(name, str(value).encode()) for name, value in pairs]


@dataclass(slots=True)
class _Count:
    minute: int
    settled: int = 0  # by all processes, as far as this one knows
    pending: int = 0  # here since then


class Meter:
    """Requests of a minute, by name. A request is counted in this process and waits for nothing; every quarter of a second the counts are put
    together with those of other processes. So for that long each process may let pass what is left of the minute.
    """

    def __init__(self, redis: "Redis", settle_seconds: float = 0.25) -> None:
        self._redis, self._settle_seconds = redis, settle_seconds
        self._counts: dict[str, _Count] = {}
        self._settling: asyncio.Task[None] | None = None

    def use(self, name: str, limit: int) -> Standing:
        """Count one request; nothing remains when it is one too many or the last."""
        now = time.time()
        minute, second = divmod(now, 60)
        count = self._counts.get(name)
        if count is None or count.minute != int(minute):
            count = self._counts[name] = _Count(int(minute))
        count.pending += 1
        if self._settling is None:
            self._settling = asyncio.create_task(self._settle_soon())
        return Standing(limit, limit - count.settled - count.pending, math.ceil(60 - second))

    async def close(self) -> None:
        """Stop settling."""
        if self._settling is not None:
            self._settling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._settling

    async def _settle_soon(self) -> None:
        try:
            await asyncio.sleep(self._settle_seconds)
            await self._settle()
        finally:
            self._settling = None

    async def _settle(self) -> None:
        this_minute = int(time.time() // 60)
        self._counts = {name: count for name, count in self._counts.items() if count.minute >= this_minute}
        sent = [(name, count, count.pending) for name, count in self._counts.items() if count.pending]
        for _, count, n in sent:  # as if Redis had answered already, so that nothing is counted twice whatever happens
            count.pending -= n
            count.settled += n
        with contextlib.suppress(*LOST):
            async with self._redis.pipeline(transaction=False) as pipe:
                for name, count, n in sent:
                    key = f"vibe:rate:{count.minute}:{name}"
                    pipe.incrby(key, n)
                    pipe.expire(key, 120)
                totals = (await pipe.execute())[::2]
            for (_, count, _), total in zip(sent, totals, strict=True):
                count.settled = max(count.settled, int(total))
