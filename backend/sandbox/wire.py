"""The host's end of a supervisor's socket: channels with bounded flow. What comes over it is never trusted."""

import asyncio
import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

from backend.sandbox.inside.frames import (
    CALL,
    CHUNK,
    CREDIT,
    DATA,
    DONE,
    EOF,
    ERR,
    FRAME_LIMIT,
    HEADER,
    HELLO,
    WINDOW,
)
from backend.sandbox.protocol import Conflict, InvalidCall, NotFound, QuotaExceeded, SandboxDied, SandboxError

_ERRORS: Mapping[str, type[SandboxError]] = {
    "not_found": NotFound,
    "quota": QuotaExceeded,
    "conflict": Conflict,
}


class Broken(Exception):
    """The other side broke the protocol."""


class Channel:
    """One call and what flows until it is done: at most WINDOW bytes wait here."""

    def __init__(self, connection: "Connection", number: int) -> None:
        self.number = number
        self._connection = connection
        self._frames: deque[tuple[int, bytes]] = deque()
        self._waiting = 0
        self._arrived = asyncio.Event()
        self._credit = WINDOW
        self._granted = asyncio.Event()

    def arrived(self, kind: int, payload: bytes) -> None:
        """Called by the connection for each frame."""
        if kind == CREDIT:
            self._credit += int.from_bytes(payload[:4], "big")
            self._granted.set()
            return
        self._waiting += len(payload)
        if self._waiting > WINDOW + FRAME_LIMIT or len(self._frames) > WINDOW:
            raise Broken("more was sent than was granted")
        self._frames.append((kind, payload))
        self._arrived.set()

    def wake(self) -> None:
        """The connection has ended: let everyone who waits see it."""
        self._arrived.set()
        self._granted.set()

    async def next(self) -> tuple[int, bytes]:
        """The next frame of output (DATA, ERR), HELLO, or DONE. Raises SandboxDied."""
        while not self._frames:
            self._connection.check()
            self._arrived.clear()
            await self._arrived.wait()
        kind, payload = self._frames.popleft()
        self._waiting -= len(payload)
        return kind, payload

    async def consumed(self, size: int) -> None:
        """Grant the box `size` more bytes."""
        await self._connection.send(CREDIT, self.number, size.to_bytes(4, "big"))

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Pieces of output as they come; ends with the DONE frame. Grants credit after each piece was dealt with."""
        while True:
            kind, payload = await self.next()
            yield kind, payload
            if kind == DONE:
                return
            if kind in (DATA, ERR):
                await self.consumed(len(payload))

    async def feed(self, data: bytes) -> None:
        """Send standard input and its end, no faster than the box takes it."""
        view = memoryview(data)
        while view:
            while self._credit <= 0:
                self._connection.check()
                self._granted.clear()
                await self._granted.wait()
            piece = view[: min(CHUNK, self._credit)]
            self._credit -= len(piece)
            await self._connection.send(DATA, self.number, bytes(piece))
            view = view[len(piece) :]
        await self._connection.send(EOF, self.number)


class Connection:
    """A supervisor's socket, read by one task and shared by all channels."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._channels: dict[int, Channel] = {}
        self._last = 0
        self.ended = asyncio.Event()
        self.reason = ""
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def over(cls, sock: socket.socket) -> "Connection":
        """Take over a connected socket."""
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=FRAME_LIMIT)
        return cls(reader, writer)

    def check(self) -> None:
        """Raises SandboxDied once the connection has ended."""
        if self.ended.is_set():
            raise SandboxDied(self.reason or "the sandbox has stopped")

    def open(self) -> Channel:
        """A new channel; the caller closes it."""
        self.check()
        self._last += 1
        channel = self._channels[self._last] = Channel(self, self._last)
        return channel

    def drop(self, channel: Channel) -> None:
        """Forget a channel; frames that still come for it are ignored."""
        self._channels.pop(channel.number, None)

    async def send(self, kind: int, number: int, payload: bytes = b"") -> None:
        """Send one frame. Raises SandboxDied."""
        self.check()
        self._writer.write(HEADER.pack(len(payload), kind, number) + payload)
        try:
            await self._writer.drain()
        except OSError:
            await self.ended.wait()
            self.check()

    async def call(self, op: str, **arguments: Any) -> tuple[dict[str, Any], bytes]:
        """A question with one answer: (answer, data before it)."""
        channel = self.open()
        try:
            await self.send(CALL, channel.number, request(op, arguments))
            data = b""
            async for kind, payload in channel.output():
                if kind == DATA:
                    data += payload
                elif kind == DONE:
                    return answer(payload), data
        finally:
            self.drop(channel)
        raise SandboxDied("the sandbox has stopped")

    async def close(self) -> None:
        """End the connection; the box ends with it."""
        self._writer.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while True:
                size, kind, number = HEADER.unpack(await self._reader.readexactly(HEADER.size))
                if size > FRAME_LIMIT or kind not in (DATA, ERR, CREDIT, DONE, HELLO):
                    raise Broken("not a frame")
                payload = await self._reader.readexactly(size) if size else b""
                channel = self._channels.get(number)
                if channel is not None:
                    channel.arrived(kind, payload)
        except (asyncio.IncompleteReadError, OSError):
            self.reason = self.reason or "the sandbox has stopped"
        except Broken as error:
            self.reason = f"the sandbox broke the protocol: {error}"
        finally:
            self._writer.close()
            self.ended.set()
            for channel in self._channels.values():
                channel.wake()


def request(op: str, arguments: Mapping[str, Any]) -> bytes:
    """The payload of a CALL."""
    return json.dumps({"op": op, **arguments}).encode()


def answer(payload: bytes) -> dict[str, Any]:
    """The object of an answer; raises the error that it names."""
    try:
        body = json.loads(payload)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise SandboxDied("the sandbox answered with something that is not an answer")
    if "error" in body:
        raise _ERRORS.get(str(body["error"]), InvalidCall)(str(body.get("text", ""))[:2000])
    return body
