"""A raw HTTP/1.1 client for one keep-alive connection, cheap enough to watch thousands of tokens a second beside its target."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self, cast
from urllib.parse import urlsplit

Sink = Callable[[bytes], None]
MOST_ERROR_BYTES = 500


class Refused(Exception):
    """The target did not answer as it should: a status that is no success, or a connection that closed."""


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer. `body` is empty when a sink took it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """One connection, one request at a time. `received` counts every byte that came in, heads and framing too."""

    def __init__(self, host: str, headers: Mapping[str, str]) -> None:
        self.received = 0
        self._fixed = "".join(f"{name}: {value}\r\n" for name, value in {"Host": host, **headers}.items())
        self._transport: asyncio.Transport
        self._rest = b""
        self._step: Callable[[bytes], int] = self._head
        self._left = 0
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._sink: Sink | None = None
        self._answer: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, url: str, headers: Mapping[str, str] | None = None) -> Self:
        """Connect to the host and port of `url`; `headers` go with every request."""
        parts = urlsplit(url)
        loop = asyncio.get_running_loop()
        port = parts.port or 80
        _, connection = await loop.create_connection(
            lambda: cls(parts.netloc, headers or {}), parts.hostname or "", port
        )
        return connection

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    @property
    def closed(self) -> bool:
        """Whether nothing more can be asked here."""
        return self._transport.is_closing()

    async def request(
        self, method: str, path: str, content: object = None, *, sink: Sink | None = None
    ) -> Answer:
        """Ask, and wait for the whole answer; `sink` gets a success's body piece by piece. Raises `Refused`."""
        body = b"" if content is None else json.dumps(content).encode()
        head = f"{method} {path} HTTP/1.1\r\n{self._fixed}Content-Length: {len(body)}\r\n"
        kind = "Content-Type: application/json\r\n\r\n" if body else "\r\n"
        self._answer = asyncio.get_running_loop().create_future()
        self._sink = sink
        self._transport.write((head + kind).encode() + body)
        try:
            answer = await self._answer
        except BaseException:
            self.close()  # what is left of the answer would be taken for the next one's
            raise
        if not 200 <= answer.status < 300:
            raise Refused(
                f"{method} {path}: {answer.status} {answer.body[:MOST_ERROR_BYTES].decode(errors='replace')}"
            )
        return answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever still waits learns that nothing more comes."""
        self._fail(Refused(f"connection closed: {error or 'by the target'}"))

    def _fail(self, error: Exception) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)

    def data_received(self, data: bytes) -> None:
        """Take as many whole parts as there are."""
        self.received += len(data)
        rest = self._rest + data if self._rest else data
        while rest and (taken := self._step(rest)):
            rest = rest[taken:]
        self._rest = rest

    def _head(self, data: bytes) -> int:
        head, found, _ = data.partition(b"\r\n\r\n")
        if not found:
            return 0
        status, *lines = head.decode("latin-1").split("\r\n")
        self._status = int(status.split(" ", 2)[1])
        self._headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        self._body = []
        if self._headers.get("transfer-encoding") == "chunked":
            self._step = self._chunk
        else:
            self._left = int(self._headers.get("content-length", 0))
            self._step = self._sized
            if not self._left:
                self._end()
        return len(head) + 4

    def _sized(self, data: bytes) -> int:
        piece = data[: self._left]
        self._left -= len(piece)
        self._take(piece)
        if not self._left:
            self._end()
        return len(piece)

    def _chunk(self, data: bytes) -> int:
        start = data.find(b"\r\n") + 2
        if start < 2:
            return 0
        size = int(data[: start - 2], 16)
        whole = start + size + 2
        if len(data) < whole:
            return 0
        if size:
            self._take(data[start : start + size])
        else:
            self._end()
        return whole

    def _take(self, piece: bytes) -> None:
        if not self._sink or self._status >= 300:
            return self._body.append(piece)
        try:
            self._sink(piece)
        except Exception as error:  # whatever the reader found wrong is the business of who asked
            self._fail(error)

    def _end(self) -> None:
        self._step = self._head
        if self._answer and not self._answer.done():
            self._answer.set_result(Answer(self._status, self._headers, b"".join(self._body)))


class Events:
    """Splits a body into server-sent events and hands on each one's data; comments are left out.

    `bytes` counts the body as it came, framing of events included, HTTP's own not.
    """

    def __init__(self, on_data: Sink) -> None:
        self.bytes = 0
        self._on_data = on_data
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """More of the body."""
        self.bytes += len(piece)
        *events, self._rest = (self._rest + piece).split(b"\n\n")
        for event in events:
            start = event.find(b"data: ")
            if start >= 0:
                self._on_data(event[start + 6 :])
