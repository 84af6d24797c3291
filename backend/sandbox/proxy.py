"""A box's only door to the network: an HTTP proxy in the host process.

The listener was made inside the box's network (127.0.0.1:3128 there) and handed out, so connections arrive here
without a process in between. Each target passes the box's policy first and the egress guard second.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass

from backend.kit import egress
from backend.sandbox.protocol import Network

CONNECTIONS = 32
HEAD_LIMIT = 16 * 1024
HEAD_SECONDS = 30.0
IDLE_SECONDS = 600.0
_PIECE = 64 * 1024
_WEB_PORTS = (80, 443)
_MAIL = 25


@dataclass(frozen=True)
class Decision:
    """One connection that a box asked for: where to, and why not when it was refused."""

    host: str
    port: int
    allowed: bool
    reason: str = ""


class Refused(Exception):
    """The proxy answers with this status and text instead of connecting."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


def permits(network: Network, target: egress.Target) -> bool:
    """Whether the policy lets a box reach a target. Entries without a port mean the web's ports."""
    if network.policy == "off":
        return False
    if network.policy == "open":
        return target.port != _MAIL
    return any(_matches(entry, target) for entry in network.hosts)


def _matches(entry: str, target: egress.Target) -> bool:
    name, colon, port = (
        entry.rpartition(":") if not entry.endswith("]") and entry.count(":") != 0 else (entry, "", "")
    )
    if colon and port.isdigit():
        ports: tuple[int, ...] = (int(port),)
    else:
        name, ports = entry, _WEB_PORTS
    if target.port not in ports:
        return False
    name = name.strip("[]").lower().rstrip(".")
    if name.startswith("*."):
        return target.host.endswith(name[1:])
    return target.host == name


class Proxy:
    """Serves one box until closed; `on_decision` hears of each target, allowed or not."""

    def __init__(
        self, network: Network, private_targets: frozenset[str], on_decision: Callable[[Decision], None]
    ) -> None:
        self._network = network
        self._private_targets = private_targets
        self._on_decision = on_decision
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @classmethod
    async def start(
        cls,
        listener: socket.socket,
        network: Network,
        private_targets: frozenset[str],
        on_decision: Callable[[Decision], None],
    ) -> "Proxy":
        """Serve on a listening TCP socket; anything else raises ValueError."""
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if listener.family != socket.AF_INET or listener.type != socket.SOCK_STREAM or not listens:
            listener.close()
            raise ValueError("not a listening TCP socket")
        proxy = cls(network, private_targets, on_decision)
        proxy._server = await asyncio.start_server(proxy._accept, sock=listener, limit=HEAD_LIMIT)
        return proxy

    async def close(self) -> None:
        """Stop serving and cut what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with self._free:
                await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            method, address, lines = await _head(reader)
            if method == "CONNECT":
                far_reader, far_writer = await self._connect(_authority(address))
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                body = None
            else:
                target, head, body = _forwarded(method, address, lines)
                far_reader, far_writer = await self._connect(target)
                far_writer.write(head)
        except Refused as refused:
            await _say(writer, refused.status, str(refused))
            return
        try:
            await _splice(reader, writer, far_reader, far_writer, body)
        finally:
            far_writer.close()

    async def _connect(self, target: egress.Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not permits(self._network, target):
            raise self._refuse(
                target,
                "is not on this sandbox's allow-list"
                if self._network.policy == "allowlist"
                else "is not reachable from a sandbox",
                "Its owner can add the host to the agent's allowed hosts.",
            )
        try:
            pair = await egress.open_connection(
                target.host, target.port, private_targets=self._private_targets, limit=_PIECE
            )
        except (egress.PrivateAddress, egress.UnsafeURL) as error:
            raise self._refuse(
                target, f"may not be reached: {error}", "Sandboxes reach public addresses only."
            ) from None
        except (egress.EgressRefused, OSError) as error:
            self._on_decision(Decision(target.host, target.port, True, str(error)))
            raise Refused("502 Bad Gateway", f"{target} could not be reached: {error}") from None
        self._on_decision(Decision(target.host, target.port, True))
        return pair

    def _refuse(self, target: egress.Target, reason: str, fix: str) -> Refused:
        self._on_decision(Decision(target.host, target.port, False, reason))
        return Refused("403 Forbidden", f"{target} {reason}. {fix}")


async def _head(reader: asyncio.StreamReader) -> tuple[str, str, list[bytes]]:
    """(method, address, header lines) of a request."""
    try:
        async with asyncio.timeout(HEAD_SECONDS):
            raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.LimitOverrunError, TimeoutError):
        raise Refused("400 Bad Request", "the request's head is too long or came too slowly") from None
    first, *lines = raw[:-4].split(b"\r\n")
    parts = first.decode("latin-1").split(" ")
    if (
        len(parts) != 3
        or not parts[2].startswith("HTTP/1.")
        or any(b"\n" in line or b"\r" in line for line in lines)
    ):
        raise Refused("400 Bad Request", "not an HTTP/1.1 request")
    return parts[0], parts[1], lines


def _authority(text: str) -> egress.Target:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5:
        raise Refused("400 Bad Request", "CONNECT wants host:port")
    return _target(host, int(port))


def _target(host: str, port: int) -> egress.Target:
    try:
        return egress.target_of(host, port)
    except egress.UnsafeURL as error:
        raise Refused("403 Forbidden", str(error)) from None


def _forwarded(method: str, address: str, lines: list[bytes]) -> tuple[egress.Target, bytes, int]:
    """A plain request for a proxy: (target, the head to send on, length of the body). One request per connection, and
    its Host is the one that was checked."""
    try:
        url = egress.parse_url(address)
    except egress.UnsafeURL as error:
        raise Refused("403 Forbidden", str(error)) from None
    if url.scheme != "http":
        raise Refused("400 Bad Request", "https goes through CONNECT")
    target = _target(url.raw_host or "", url.port or 80)
    length, kept = 0, []
    for line in lines:
        name, _, value = line.partition(b":")
        match name.strip().lower():
            case b"transfer-encoding":
                raise Refused("411 Length Required", "send a Content-Length, or use https")
            case b"content-length":
                text = value.strip()
                if length or not text.isdigit() or len(text) > 15:
                    raise Refused("400 Bad Request", "bad Content-Length")
                length = int(text)
                kept.append(line)
            case (
                b"host"
                | b"connection"
                | b"proxy-connection"
                | b"proxy-authorization"
                | b"keep-alive"
                | b"upgrade"
                | b"te"
            ):
                pass
            case _:
                kept.append(line)
    host = str(target) if target.port != 80 else str(target).rpartition(":")[0]
    start = f"{method} {url.raw_path_qs} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n".encode("latin-1")
    return target, start + b"".join(line + b"\r\n" for line in kept) + b"\r\n", length


async def _splice(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
    body: int | None,
) -> None:
    """Carry bytes both ways until both sides have ended; with `body` only that many go out."""
    outward = asyncio.create_task(_carry(reader, far_writer, body))
    try:
        await _carry(far_reader, writer, None)
        if body is None:
            await outward
    finally:
        outward.cancel()
        await asyncio.gather(outward, return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None) -> None:
    left = most
    while left is None or left > 0:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                data = await reader.read(_PIECE if left is None else min(_PIECE, left))
        except TimeoutError:
            return
        if not data:
            break
        writer.write(data)
        await writer.drain()
        if left is not None:
            left -= len(data)
    if most is None and writer.can_write_eof():
        with contextlib.suppress(OSError):
            writer.write_eof()


async def _say(writer: asyncio.StreamWriter, status: str, text: str) -> None:
    body = (text + "\n").encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode("latin-1") + body)
    await writer.drain()
