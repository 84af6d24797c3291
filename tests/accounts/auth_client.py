"""The official @supabase/auth-js, as a test speaks to it."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.product import ROOT

BRIDGE = Path(__file__).parent / "auth_js" / "bridge.mjs"


class AuthJs:
    """One node process with as many clients as are named."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = itertools.count()

    async def ask(self, client: str, method: str, *args: Any) -> tuple[Any, dict[str, Any] | None]:
        """What the client's method answers: its data and its error."""
        assert self._process.stdin is not None and self._process.stdout is not None
        id = next(self._ids)
        line = json.dumps({"id": id, "client": client, "method": method, "args": args})
        self._process.stdin.write(line.encode() + b"\n")
        answer = json.loads(await asyncio.wait_for(self._process.stdout.readline(), 30))
        assert answer["id"] == id
        return answer["data"], answer["error"]

    async def done(self, client: str, method: str, *args: Any) -> Any:
        """The data of a method that must succeed."""
        data, error = await self.ask(client, method, *args)
        assert error is None, error
        return data

    async def refused(self, client: str, method: str, *args: Any) -> dict[str, Any]:
        """The error of a method that must be refused."""
        _, error = await self.ask(client, method, *args)
        assert error is not None
        return error


@asynccontextmanager
async def auth_js(url: str) -> AsyncIterator[AuthJs]:
    """The client's process, speaking to `url`/auth/v1."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(BRIDGE),
        f"{url}/auth/v1",
        str(ROOT / "frontend"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1024 * 1024,
    )
    try:
        yield AuthJs(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 10)
