"""What the servers of `tests/wire` share: a real HTTP server on a free port, in a thread, that plays the replies it is given."""

import asyncio
import json
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web


@dataclass(frozen=True)
class Reply:
    """One answer: bytes to send and seconds (float) to wait between them, and how it ends.

    `drop` breaks the connection, `hang` says nothing more until the client goes or the server ends.
    """

    pieces: Sequence[bytes | float] = ()
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    ending: Literal["end", "drop", "hang"] = "end"


def refusal(status: int, body: Any, headers: dict[str, str] | None = None) -> Reply:
    """An error with a JSON body."""
    return Reply([json.dumps(body).encode()], status, "application/json", headers or {})


class Refused(Exception):
    """The server does not accept what it was sent"""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(body)
        self.reply = refusal(status, body)


class WireServer:
    """Base: subclasses add routes. Use as a context manager; `url` is the address, `sent` what clients sent, oldest first."""

    def __init__(self) -> None:
        self.url = ""
        self.sent: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.client_left = threading.Event()
        self.replies: deque[Reply] = deque()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def play(self, *replies: Reply) -> None:
        """Answer the next calls with these."""
        self.replies.extend(replies)

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_routes(self.routes())
        runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def respond(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        """Play one reply."""
        response = web.StreamResponse(
            status=reply.status, headers={"Content-Type": reply.content_type, **reply.headers}
        )
        try:
            await response.prepare(request)
            for piece in reply.pieces:
                if isinstance(piece, float):
                    await asyncio.sleep(piece)
                else:
                    await response.write(piece)
            if reply.ending == "hang":
                await self._stop.wait()
            if reply.ending != "end":
                if request.transport is not None:
                    request.transport.abort()
                return response
            await response.write_eof()
        except (asyncio.CancelledError, ConnectionError):
            self.client_left.set()
            raise
        return response
