"""A thread's files for those who look at them: an API process asks, the worker that holds the thread's sandbox answers.

A question is published to all workers. Whoever has the sandbox open takes it at once; the others wait a moment, and one of them opens it.
Nothing here changes a file.
"""

import asyncio
import logging
import time
from typing import Any
from uuid import UUID, uuid4

import msgspec
from redis.asyncio import Redis

from backend.kit.problems import InvalidRequest, NotFound, TooLarge, Unavailable
from backend.kit.redis import LOST
from backend.sandbox.protocol import InvalidCall, SandboxError, SandboxSpec
from backend.sandbox.protocol import NotFound as NoSuchFile
from backend.sandbox.service import SandboxManager

log = logging.getLogger(__name__)
CHANNEL = "vibe:files"
_MOST_BYTES = 8_000_000
_ENTRIES = 2_000
_ANSWER_SECONDS = 10
_WORKER_SECONDS = 5.0
_STAND_BACK_SECONDS = 0.08


class FilesUnavailable(Unavailable):
    """The workspace cannot be reached right now"""


class Question(msgspec.Struct):
    """`list` a folder or `read` a file of a thread's workspace."""

    id: str
    thread_id: str
    verb: str
    path: str


class Answer(msgspec.Struct):
    """Entries or bytes, or what went wrong."""

    entries: list[tuple[str, str, int, float]] = []
    truncated: bool = False
    data: bytes = b""
    error: str = ""
    kind: str = ""


async def ask(redis: "Redis", thread_id: UUID, verb: str, path: str) -> Answer:
    """A worker's answer. Raises `NotFound`, `InvalidRequest`, `TooLarge` or `FilesUnavailable`."""
    question = Question(uuid4().hex, str(thread_id), verb, path)
    try:
        until = time.monotonic() + _WORKER_SECONDS
        while not await redis.publish(CHANNEL, msgspec.msgpack.encode(question)):
            if time.monotonic() > until:
                raise FilesUnavailable("No worker is running.")
            await asyncio.sleep(0.1)  # one that is being started hears us soon
        # A list waits for its one reader; the answer cannot be missed.
        got: Any = await asyncio.wait_for(_pop(redis, f"vibe:files:{question.id}"), _ANSWER_SECONDS)
    except LOST as error:
        raise FilesUnavailable("No worker answered in time.") from error
    answer = msgspec.msgpack.decode(got, type=Answer)
    if answer.error:
        raise _PROBLEMS.get(answer.kind, FilesUnavailable)(answer.error)
    return answer


async def _pop(redis: "Redis", key: str) -> bytes:
    """Wait in short turns, so that no socket timeout cuts in."""
    while True:
        got: Any = await redis.blpop([key], timeout=1)
        if got is not None:
            data: bytes = got[1]
            return data


_PROBLEMS: dict[str, type[NotFound] | type[InvalidRequest] | type[TooLarge]] = {"not-found": NotFound, "invalid": InvalidRequest, "too-large": TooLarge}


class FileDesk:
    """A worker's part."""

    def __init__(self, redis: "Redis", boxes: SandboxManager | None, reason: str) -> None:
        self._redis = redis
        self._boxes = boxes
        self._reason = reason
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, message: bytes) -> None:
        """A question has come."""
        task = asyncio.create_task(self._serve(msgspec.msgpack.decode(message, type=Question)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, question: Question) -> None:
        try:
            if self._boxes is None or question.thread_id not in self._boxes.live:
                await asyncio.sleep(_STAND_BACK_SECONDS)
            if not await self._redis.set(f"vibe:files:taken:{question.id}", b"1", nx=True, ex=60):
                return
            answer = await self._answer(question)
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.rpush(f"vibe:files:{question.id}", msgspec.msgpack.encode(answer))
                pipe.expire(f"vibe:files:{question.id}", 60)
                await pipe.execute()
        except LOST as error:
            log.warning("a question about files was not answered", extra={"error": str(error)})

    async def _answer(self, question: Question) -> Answer:
        if self._boxes is None:
            return Answer(error=f"sandbox_unavailable: {self._reason}", kind="off")
        try:
            # The thread's own box when it is live, whatever network it has; else one without any.
            async with self._boxes.use(SandboxSpec(question.thread_id), any_spec=True) as use:
                if question.verb == "list":
                    listing = await use.sandbox.list(question.path, 1, _ENTRIES)
                    return Answer(entries=[(e.path, e.kind, e.size, e.modified) for e in listing.entries], truncated=listing.truncated)
                info = await use.sandbox.stat(question.path)
                if info.size > _MOST_BYTES:
                    return Answer(error=f"The file has {info.size:,} bytes; at most {_MOST_BYTES:,} can be shown.", kind="too-large")
                return Answer(data=(await use.sandbox.read(question.path, 0, _MOST_BYTES)).data)
        except NoSuchFile:
            return Answer(error=f"There is no {question.path}.", kind="not-found")
        except (InvalidCall, ValueError) as error:
            return Answer(error=str(error), kind="invalid")
        except SandboxError as error:
            return Answer(error=str(error), kind="off")
