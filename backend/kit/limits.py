"""Rate limits: fixed windows counted in Redis, and in this process while Redis is away."""

import math
import time

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
