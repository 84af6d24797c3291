"""A run's live events: written by the worker that holds the run, read by any API process.

The writer keeps the run's state beside its events, so a snapshot is always at hand: every generation of a stream opens with one. What
was lost with Redis, grew too long or was taken over by another worker just begins a new generation.

Replay log: Redis stream `vibe:run:<id>` whose entry ids are the event ids, `<generation>-<n>`; a generation is
`epoch << 16 | reopenings`. Live: one publication per flush for all runs of a worker on `vibe:events`.
Both carry ready-made server-sent events, so an API process copies bytes.
"""

import asyncio
import contextlib
import logging
import math
import struct
import time
from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from redis.asyncio import Redis

from backend.kit.redis import LOST

log = logging.getLogger(__name__)

EVENTS_CHANNEL = "vibe:events"
CONTROL_CHANNEL = "vibe:control"
LOG_SECONDS = 3600
_OPENS, _ENDS = 1, 2
_HEADER = struct.Struct("!16sQIBI")  # run, generation, n, flags, length of the frame
_OUTPUT_TAIL = 16_384
_PATIENCE = 2.0  # seconds that a flush may take
_TICK = 0.025  # seconds
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1  # seconds between two flushes: as long as a flush takes
_MAX_UNREAD = 2_000  # frames kept for a slow watcher
_MAX_ENTRIES = 4_000  # a generation longer than this is opened anew, which bounds the log


class EventId(NamedTuple):
    """`<generation>-<n>`."""

    generation: int
    n: int

    def __str__(self) -> str:
        return f"{self.generation}-{self.n}"

    @classmethod
    def parse(cls, text: str | None) -> "EventId":
        """An id as a client sends it back; `0-0`, which asks for everything, when it is not one of ours."""
        head, _, tail = (text or "").partition("-")
        return cls(int(head), int(tail)) if head.isdecimal() and tail.isdecimal() and len(head) < 20 and len(tail) < 11 else NOTHING


NOTHING = EventId(0, 0)


class Frame(NamedTuple):
    """One server-sent event as bytes, with what a reader must know of it."""

    id: EventId
    opens: bool
    ends: bool
    data: bytes


def sse(event: dict[str, Any], id: EventId | None = None) -> bytes:
    """An event in the wire format of server-sent events (HTML Standard §9.2)."""
    body = orjson.dumps(event, default=str)
    return b"id: %d-%d\ndata: %b\n\n" % (id.generation, id.n, body) if id else b"data: %b\n\n" % body


def log_key(run_id: UUID) -> str:
    """Name of a run's replay log."""
    return f"vibe:run:{run_id}"


class RunStream:
    """The writing end of one run, and the run's state as its watchers see it."""

    def __init__(self, writer: "StreamWriter", run_id: UUID, epoch: int, state: dict[str, Any]) -> None:
        self._writer = writer
        self.run_id = run_id
        self.key = log_key(run_id)
        self._base = epoch << 16
        self._reopened = -1
        self._n = 0
        self._deltas: list[tuple[str, dict[str, Any], str]] = []
        self._first_words = False
        self.due = time.monotonic() + writer.window  # when it may be written next
        self._end: dict[str, Any] | None = None
        self.frames: list[Frame] = []
        self.state: dict[str, Any] = {"type": "stream.snapshot", "partial": None, "outputs": {}} | state
        self.reopen()

    @property
    def generation(self) -> int:
        """The generation that is being written."""
        return self._base + self._reopened

    def reopen(self) -> None:
        """Begin a new generation with a snapshot: what is pending is in it already."""
        self._reopened += 1
        self._n = 0
        self._deltas.clear()
        self.frames.clear()
        self._append(self._snapshot(), opens=True)
        if self._end is not None:
            self._append(self._end, ends=True)
        self._writer.touch(self, urgent=False)

    def emit(self, event: dict[str, Any], *, ends: bool = False) -> None:
        """Append an event; the run's end leaves at once, others with the next flush."""
        self._settle()
        self._apply(event)
        self._append(event, ends=ends)
        if ends:
            self._end = event
        self._writer.touch(self, urgent=ends)

    def delta(self, type: str, text: str, **members: Any) -> None:
        """Append text to the answer, its reasoning, a call's arguments or a tool's output; pieces of one kind are joined until the flush."""
        partial = self.state["partial"]
        if type == "tool.output":
            outputs = self.state["outputs"]
            outputs[members["call_id"]] = (outputs.get(members["call_id"], "") + text)[-_OUTPUT_TAIL:]
        elif partial is not None:
            self._extend_partial(partial, type, text, members)
        if self._deltas and (self._deltas[0][0] != type or self._deltas[0][1] != members):
            self._settle()
        self._deltas.append((type, members, text))
        are_words = type != "tool.arguments_delta"
        self._writer.touch(self, urgent=self._first_words and are_words)
        self._first_words = self._first_words and not are_words

    def take(self) -> list[Frame]:
        """Everything pending, oldest first."""
        self._settle()
        frames, self.frames = self.frames, []
        return frames

    @property
    def is_long(self) -> bool:
        """Whether this generation has grown so long that a snapshot is cheaper than its replay."""
        return self._n > _MAX_ENTRIES

    def _settle(self) -> None:
        if self._deltas:
            type, members, _ = self._deltas[0]
            text = "".join(piece for _, _, piece in self._deltas)
            self._deltas.clear()
            self._append({"type": type, "text": text} | members)

    def _append(self, event: dict[str, Any], *, opens: bool = False, ends: bool = False) -> None:
        id = EventId(self.generation, self._n)
        self._n += 1
        self.frames.append(Frame(id, opens, ends, sse(event, id)))

    def _snapshot(self) -> dict[str, Any]:
        snapshot = dict(self.state)
        if (partial := snapshot["partial"]) is not None:
            snapshot["partial"] = partial | {"content": "".join(partial["content"]), "reasoning": "".join(partial["reasoning"]),
                                             "tool_calls": [call | {"arguments": "".join(call["arguments"])} for call in partial["tool_calls"]]}  # fmt: skip
        return snapshot

    @staticmethod
    def _extend_partial(partial: dict[str, Any], type: str, text: str, members: dict[str, Any]) -> None:
        if type == "message.delta":
            partial["content"].append(text)
        elif type == "reasoning.delta":
            partial["reasoning"].append(text)
        elif type == "tool.arguments_delta":
            calls = partial["tool_calls"]
            while len(calls) <= members["index"]:
                calls.append({"index": len(calls), "id": members["id"], "name": members["name"], "arguments": []})
            calls[members["index"]]["arguments"].append(text)

    def _apply(self, event: dict[str, Any]) -> None:
        """The state after an event: the same rules as the reader's."""
        state = self.state
        match event["type"]:
            case "message.started" | "message.restarted":
                state["partial"] = {"message_id": event["message_id"], "content": [], "reasoning": [], "tool_calls": []}
                self._first_words = True
            case "message.completed":
                state["partial"] = None
                state["messages"].append(event["message"])
            case "tool.called":
                state["outputs"].setdefault(event["call_id"], "")
            case "tool.returned":
                state["outputs"].pop(event["call_id"], None)
                state["messages"].append(event["message"])
            case "approval.requested":
                state["approvals"].append(event["approval"])
            case "approval.decided":
                decided = event["approval"]
                state["approvals"] = [decided if a["approval_id"] == decided["approval_id"] else a for a in state["approvals"]]
            case "usage.updated":
                state["run"] |= {key: value for key, value in event.items() if key != "type"}
            case "run.finished":
                state["run"] |= {"status": event["status"], "problem": event["problem"]}
                state["partial"] = None
            case _:
                return


class StreamWriter:
    """Writes the events of all runs of this worker: one pipeline and one publication a flush.

    An answer's first words and a run's end leave at once; else a run is written at most once in `window` seconds.
    """

    def __init__(self, redis: "Redis", *, window: float = 0.07) -> None:
        """`redis` needs no timeouts of its own."""
        self._redis = redis
        self.window = window
        self._dirty: dict[UUID, RunStream] = {}
        self._next = asyncio.Event()  # something is due earlier than what is waited for
        self._due = math.inf
        self._lost: set[UUID] = set()
        self._closing = False

    def touch(self, stream: RunStream, *, urgent: bool) -> None:
        """This run has something to write."""
        if stream.run_id not in self._dirty:
            self._dirty[stream.run_id] = stream
        elif not urgent:
            return
        if urgent:
            stream.due = 0.0
        if stream.due < self._due:
            self._due = stream.due
            self._next.set()

    async def run(self) -> None:
        """Flush whenever something is due, until closed and empty."""
        while not self._closing or self._dirty:
            await self._next_due()
            began = time.monotonic()
            await self._flush(began)
            if not self._closing:
                await asyncio.sleep(min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, time.monotonic() - began)))

    async def _next_due(self) -> None:
        while not self._closing and (wait := self._due - time.monotonic()) > 0:
            self._next.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(wait) else wait):
                    await self._next.wait()

    def close(self) -> None:
        """Write what is pending, then let `run` return."""
        self._closing = True
        self._next.set()

    async def _flush(self, now: float) -> None:
        streams = [stream for stream in self._dirty.values() if stream.due <= now or self._closing]
        for stream in streams:
            del self._dirty[stream.run_id]
            stream.due = math.ceil((now + self.window) / _TICK) * _TICK  # so that a few runs share a flush
        self._due = min((stream.due for stream in self._dirty.values()), default=math.inf)
        asked: list[RunStream | None] = []  # who hears, by the answer of each command, that its log is gone
        publication: list[bytes] = []
        async with self._redis.pipeline(transaction=False) as pipe:
            for stream in streams:
                if stream.run_id in self._lost or stream.is_long:
                    self._lost.discard(stream.run_id)
                    stream.reopen()
                for frame in stream.take():
                    asked += _write(pipe, stream, frame, publication)
            if not publication:
                return
            pipe.publish(EVENTS_CHANNEL, b"".join(publication))
            try:
                async with asyncio.timeout(_PATIENCE):
                    answers = await pipe.execute(raise_on_error=False)
            except LOST as error:
                log.warning("live events could not be written; the runs go on", extra={"error": str(error)})
                self._lose(streams)
                await asyncio.sleep(0 if self._closing else 0.5)
                return
        self._lose([stream for stream, answer in zip(asked, answers, strict=False) if stream and (answer is None or isinstance(answer, Exception))])

    def _lose(self, streams: Iterable[RunStream]) -> None:
        """These runs' logs are gone: the next flush opens them anew."""
        if self._closing:
            return
        for stream in streams:
            self._lost.add(stream.run_id)
            self.touch(stream, urgent=False)


def _write(pipe: Any, stream: RunStream, frame: Frame, publication: list[bytes]) -> list[RunStream | None]:
    """Queue a frame's commands; returns for each who wants its answer."""
    flags = (_OPENS if frame.opens else 0) | (_ENDS if frame.ends else 0)
    publication.append(_HEADER.pack(stream.run_id.bytes, frame.id.generation, frame.id.n, flags, len(frame.data)))
    publication.append(frame.data)
    # A log that is not there was lost: NOMKSTREAM then answers nothing, and the run is opened anew.
    how = ("MAXLEN", "1") if frame.opens else ("NOMKSTREAM",)
    pipe.execute_command("XADD", stream.key, *how, str(frame.id), str(flags), frame.data)
    if frame.opens or frame.ends:
        pipe.expire(stream.key, LOG_SECONDS)
        return [None, None]
    return [stream]


async def read_log(redis: "Redis", run_id: UUID, after: EventId) -> list[Frame] | None:
    """What follows `after` in the replay log: the rest of its generation, or the present generation whole. None when the log cannot tell."""
    entries: Any = await redis.xrange(log_key(run_id), min="-", max="+")
    frames = [_logged(entry) for entry in entries]
    if not frames:
        return None
    same = [frame for frame in frames if frame.id.generation == after.generation]
    if same and same[-1].id.n >= after.n and frames[-1].id.generation == after.generation:
        rest = [frame for frame in same if frame.id.n > after.n]
        if not rest or rest[0].id.n == after.n + 1:
            return rest
    return frames if frames[0].opens else None


def _logged(entry: tuple[bytes, dict[bytes, bytes]]) -> Frame:
    id, fields = entry
    ((flags, data),) = fields.items()
    return Frame(EventId.parse(id.decode()), bool(int(flags) & _OPENS), bool(int(flags) & _ENDS), data)


class Mailbox:
    """What one watcher of a run has not read yet."""

    __slots__ = ("_frames", "_looked", "_missed", "_waiter")

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._missed = self._looked = False
        self._waiter: asyncio.Future[None] | None = None

    def put(self, frame: Frame) -> None:
        """A live frame. A reader that is too slow for them gets what it missed from the log."""
        if len(self._frames) >= _MAX_UNREAD:
            self._frames.clear()
            self._missed = True
        self._frames.append(frame)
        self._wake()

    def nudge(self) -> None:
        """Something may be missing: the log must be read."""
        self._missed = True
        self._wake()

    def look(self) -> None:
        """Postgres was asked how the run stands."""
        self._looked = True
        self._wake()

    async def take(self) -> tuple[list[Frame] | None, bool]:
        """What has come, at once when something has: frames, or None when the log must be read; and whether only time has passed."""
        if not (self._frames or self._missed or self._looked):
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        frames, missed, looked = self._frames, self._missed, self._looked
        self._frames, self._missed, self._looked = [], False, False
        return None if missed else frames, looked and not frames and not missed

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Hub:
    """The reading end of an API process: hands live frames to whoever watches their run."""

    def __init__(self) -> None:
        self._watchers: dict[bytes, set[Mailbox]] = {}

    def watch(self, run_id: UUID) -> Mailbox:
        """Where a run's live frames will be."""
        mailbox = Mailbox()
        self._watchers.setdefault(run_id.bytes, set()).add(mailbox)
        return mailbox

    def leave(self, run_id: UUID, mailbox: Mailbox) -> None:
        """Stop watching."""
        watchers = self._watchers.get(run_id.bytes)
        if watchers is not None:
            watchers.discard(mailbox)
            if not watchers:
                del self._watchers[run_id.bytes]

    def handle(self, publication: bytes) -> None:
        """Distribute one publication. Frames of runs that nobody here watches are skipped unread."""
        at, end = 0, len(publication)
        while at < end:
            run, generation, n, flags, length = _HEADER.unpack_from(publication, at)
            at += _HEADER.size
            if (watchers := self._watchers.get(run)) is not None:
                frame = Frame(EventId(generation, n), bool(flags & _OPENS), bool(flags & _ENDS), publication[at : at + length])
                for mailbox in watchers:
                    mailbox.put(frame)
            at += length

    def nudge(self) -> None:
        """The live channel was interrupted: every watcher reads its log again."""
        for mailbox in self._all():
            mailbox.nudge()

    def looked(self) -> None:
        """Postgres was asked how all watched runs stand."""
        for mailbox in self._all():
            mailbox.look()

    def _all(self) -> list[Mailbox]:
        return [mailbox for watchers in self._watchers.values() for mailbox in watchers]

    @property
    def watched(self) -> list[UUID]:
        """Runs that somebody here watches."""
        return [UUID(bytes=run) for run in self._watchers]
