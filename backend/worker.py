"""The worker process: holds runs on one event loop, woken by Dramatiq, kept true by leases and a sweep."""

import asyncio
import contextlib
import logging
import os
import signal
import socket

import uvloop

from backend.agent import tasks as agent_tasks
from backend.agent.inference.access import open_models, open_session
from backend.agent.inference.registry import use
from backend.agent.runs import desk
from backend.agent.runs.executor import RunExecutor
from backend.agent.stream import CONTROL_CHANNEL, StreamWriter
from backend.kit import redis, tasks
from backend.kit.db import Database
from backend.kit.ids import uuid7
from backend.kit.redis import Subscriber
from backend.kit.seal import Sealer
from backend.kit.settings import Settings
from backend.sandbox.boxes import open_boxes
from backend.services import hooks

log = logging.getLogger(__name__)


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; then hand the runs over and return. The settings name the database as the product's role, Redis and the secret key."""
    uvloop.run(_main(settings))


async def _main(settings: Settings) -> None:
    if settings.database_url is None or settings.redis_dsn is None or settings.vibe_secret_key is None:
        raise RuntimeError("a worker needs DATABASE_URL, REDIS_URL and VIBE_SECRET_KEY; `vibe worker` settles them")
    dsn, redis_dsn, secret_key = settings.database_url.get_secret_value(), settings.redis_dsn, settings.vibe_secret_key.get_secret_value()
    loop = asyncio.get_running_loop()
    leave = asyncio.Event()
    for sent in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sent, leave.set)
    name = f"{socket.gethostname()}:{os.getpid()}:{uuid7().hex[-6:]}"
    async with contextlib.AsyncExitStack() as stack:
        database = await Database.connect(dsn, size=16)
        stack.push_async_callback(database.close)
        if not await database.is_guarded():
            raise RuntimeError("a worker connects as the product's own role, as `vibe worker` does; another role would see every account")
        client = redis.connect(redis_dsn)
        stack.push_async_callback(client.aclose)
        broker = tasks.connect(redis_dsn)
        stack.callback(tasks.disconnect)
        session = await stack.enter_async_context(open_session(settings))
        models = open_models(settings, session)
        stack.push_async_callback(models.aclose)
        use(models)
        boxes, reason = await open_boxes(settings)
        if boxes is not None:
            stack.push_async_callback(boxes.close)
        events = redis.connect_for_bulk(redis_dsn)
        stack.push_async_callback(events.aclose)
        writer = StreamWriter(events)
        executor = RunExecutor(name, settings, database, client, writer, models, Sealer(secret_key), boxes, reason)
        agent_tasks.serve(executor)
        courier = await stack.enter_async_context(hooks.open_courier(settings, database, Sealer(secret_key)))
        files = desk.FileDesk(client, boxes, reason)
        subscriber = Subscriber(
            redis_dsn,
            {CONTROL_CHANNEL: executor.control, tasks.WAKE_CHANNEL: lambda _: broker.wake(), desk.CHANNEL: files.handle},
            on_connect=executor.reconnected,
        )
        stack.push_async_callback(subscriber.close)
        forever = [asyncio.create_task(work) for work in (executor.beat_forever(), executor.sweep_forever(), executor.tidy_forever(), subscriber.run())]
        forever += [asyncio.create_task(work) for work in (courier.deliver_forever(), hooks.tidy_forever(settings, database))]
        writing = asyncio.create_task(writer.run())
        consuming = tasks.consume(broker, loop)
        log.info("worker is ready", extra={"worker": name})
        executor.poke()
        leaving = asyncio.create_task(leave.wait())
        # None of the others ever returns: a worker that one of them has failed must not live on without it.
        ended, _ = await asyncio.wait({leaving, writing, *forever}, return_when=asyncio.FIRST_COMPLETED)
        log.info("worker leaves; its runs go on elsewhere")
        tasks.stop_reading(broker, consuming)
        await executor.drain()
        writer.close()
        for task in forever:
            task.cancel()
        await asyncio.gather(*forever, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await writing
        await asyncio.to_thread(consuming.stop, 2000)
        for failed in ended:
            failed.result()
