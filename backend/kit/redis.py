"""Redis or Valkey: wake-ups, live events, cache, rate limits. Nothing that is lost with it is missed."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

import redis.asyncio as aioredis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)
LOST = (RedisError, OSError, asyncio.TimeoutError)
Handler = Callable[[bytes], None]


def connect(dsn: str) -> "aioredis.Redis":
    """A client for short commands; they fail after two seconds instead of hanging when nothing answers, and wait for their turn when many come at once."""
    pool = aioredis.BlockingConnectionPool.from_url(dsn, max_connections=32, timeout=2.0, socket_timeout=2.0, socket_connect_timeout=2.0)
    return aioredis.Redis.from_pool(pool)


def connect_for_bulk(dsn: str) -> "aioredis.Redis":
    """A client for long pipelines. The caller bounds each with one timeout: redis-py's own is set anew for every answer, a third of a pipeline's cost."""
    return aioredis.from_url(dsn, socket_timeout=None, socket_connect_timeout=2.0)


class Subscriber:
    """One subscriber connection a process, kept open; hands messages to the handler of their channel."""

    def __init__(self, dsn: str, handlers: Mapping[str, Handler], *, on_connect: Callable[[], Awaitable[None]] | None = None) -> None:
        # A blocking read must not time out, or redis-py closes the connection under it.
        self._client = aioredis.from_url(dsn, socket_timeout=None, socket_connect_timeout=2.0, health_check_interval=0)
        self._handlers = {name.encode(): handler for name, handler in handlers.items()}
        self._on_connect = on_connect
        self.connected = False

    async def run(self) -> None:
        """Listen until cancelled; after a lost connection try again, waiting up to two seconds between tries."""
        delay = 0.05
        while True:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(*self._handlers)
                    self.connected, delay = True, 0.05
                    if self._on_connect is not None:
                        await self._on_connect()
                    async for message in pubsub.listen():
                        self._handlers[message["channel"]](message["data"])
            except LOST as error:
                if self.connected:
                    log.warning("lost the subscription", extra={"error": str(error)})
            finally:
                self.connected = False
            await asyncio.sleep(delay)
            delay = min(delay * 2, 2.0)

    async def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(*LOST):
            await self._client.aclose()
