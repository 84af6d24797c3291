"""Tasks by name over Dramatiq. A task is a wake-up: it carries ids, looks at the row, and may run twice or never.

`@task` functions are coroutines. A Dramatiq thread hands them to the worker's event loop and is free again at once, so
a thousand of them live on a handful of threads; what must survive the process is a row with a lease, not a message.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar, cast

import dramatiq
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed
from redis import ConnectionError as RedisConnectionError
from redis import Redis, RedisError

log = logging.getLogger(__name__)
WAKE_CHANNEL = "vibe:wake"
QUEUE = "vibe"
_IDLE_SECONDS = 2.0  # how long a worker waits for a wake-up before it looks by itself

Task = Callable[..., Coroutine[Any, Any, None]]
Decorated = TypeVar("Decorated", bound=Callable[..., Awaitable[None]])
declared: dict[str, Task] = {}


def task(name: str) -> Callable[[Decorated], Decorated]:
    """Declare a coroutine function as the task of this name."""

    def register(function: Decorated) -> Decorated:
        if name in declared:
            raise ValueError(f"two tasks are named {name}")
        declared[name] = cast(Task, function)
        return function

    return register


class _WakingConsumer(_RedisConsumer):
    """Dramatiq's consumer, but waiting for a wake-up instead of sleeping: no delay when busy, no polling when idle."""

    def __init__(self, broker: "WakingBroker", *options: Any) -> None:
        super().__init__(broker, *options)  # type: ignore[no-untyped-call]
        # Of its own: a queue's consumer and its delay queue's would take each other's wake-ups.
        self._wake = broker.bells.setdefault(self.queue_name, threading.Event())

    def __next__(self) -> Any:
        wake = self._wake
        if not self.message_cache and self.outstanding_message_count < self.prefetch:
            wake.clear()
            try:
                self.message_cache = self.broker.do_fetch(self.queue_name, self.prefetch - self.outstanding_message_count)
            except RedisConnectionError as error:
                raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
        if not self.message_cache:
            wake.wait(_IDLE_SECONDS if self.outstanding_message_count < self.prefetch else 0.01)
            return None
        return super().__next__()  # type: ignore[no-untyped-call]


class WakingBroker(RedisBroker):
    """Dramatiq's Redis broker that also publishes a wake-up with each message."""

    def __init__(self, url: str) -> None:
        client = Redis.from_url(url, socket_timeout=5.0, socket_connect_timeout=2.0)
        super().__init__(client=client, middleware=[], namespace="vibe", maintenance_chance=1000)  # type: ignore[no-untyped-call]
        self.bells: dict[str, threading.Event] = {}

    def wake(self) -> None:
        """Something may be in a queue: whoever waits for it looks."""
        for bell in list(self.bells.values()):
            bell.set()

    @property
    def consumer_class(self) -> type[_WakingConsumer]:
        """What reads the queue."""
        return _WakingConsumer

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        """Put the message into its queue and wake whoever waits."""
        sent = super().enqueue(message, delay=delay)
        self.client.publish(WAKE_CHANNEL, b"")
        return sent


class Sender:
    """Sends tasks from a thread of its own, so that nobody waits for Redis; what cannot be sent the sweep finds."""

    def __init__(self, broker: WakingBroker) -> None:
        self._broker = broker
        self._pending: queue.SimpleQueue[tuple[str, dict[str, Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="task-sender", daemon=True)
        self._thread.start()

    def send(self, name: str, values: dict[str, Any]) -> None:
        """Send soon; never blocks and never fails."""
        self._pending.put((name, values))

    def close(self) -> None:
        """Send what is left and stop."""
        self._pending.put(None)
        self._thread.join(timeout=3)

    def _run(self) -> None:
        while (item := self._pending.get()) is not None:
            name, values = item
            arguments = {key: str(value) for key, value in values.items()}
            message = dramatiq.Message(queue_name=QUEUE, actor_name=name, args=(), kwargs=arguments, options={})  # type: ignore[var-annotated]
            try:
                self._broker.declare_queue(QUEUE)
                self._broker.enqueue(message)
            except (RedisError, OSError) as error:
                log.warning("a wake-up was not sent; the sweep will find the work", extra={"task": name, "error": str(error)})


_sender: Sender | None = None


def connect(url: str) -> WakingBroker:
    """Make this process's broker and sender. Call once, before anything is enqueued."""
    global _sender
    broker = WakingBroker(url)
    dramatiq.set_broker(broker)
    _sender = Sender(broker)
    return broker


def disconnect() -> None:
    """Send what is left and forget the sender."""
    global _sender
    if _sender is not None:
        _sender.close()
        _sender = None


def send(name: str, values: dict[str, Any]) -> None:
    """Send a task at once. Within a transaction use `db.enqueue`, which waits for the commit."""
    if _sender is None:
        raise RuntimeError("tasks.connect() was not called in this process")
    _sender.send(name, values)


def consume(broker: WakingBroker, loop: asyncio.AbstractEventLoop, *, threads: int = 2) -> dramatiq.Worker:
    """Start reading the queue; every declared task runs on `loop`."""

    def actor_of(name: str, function: Task) -> Callable[..., None]:
        def hand_over(**values: str) -> None:
            future = asyncio.run_coroutine_threadsafe(function(**values), loop)
            future.add_done_callback(lambda done: _report(name, done))

        return hand_over

    for name, function in declared.items():
        dramatiq.Actor(actor_of(name, function), broker=broker, actor_name=name, queue_name=QUEUE, priority=0, options={})
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=int(_IDLE_SECONDS * 1000))
    worker.start()
    return worker


def stop_reading(broker: WakingBroker, worker: dramatiq.Worker) -> None:
    """From now on no message is taken from the queue: others have them."""
    for consumer in worker.consumers.values():
        consumer.stop()
    broker.wake()


def _report(name: str, done: "Future[None]") -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        log.error("a task failed", exc_info=error, extra={"task": name})
