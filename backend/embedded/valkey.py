"""Valkey from the wheel: 127.0.0.1 only, with a password and an append-only file, its own uid when started by root."""

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil

from backend.embedded import process
from backend.embedded.directory import stored_secret, write_private
from backend.embedded.errors import CannotStart

_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {directory}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
set-proc-title no
"""


class Valkey:
    """One Valkey server on one directory. `start` may be called again after the server has died."""

    def __init__(
        self, room: Path, binary: Path, log: Path, *, uid: int | None = None, say: process.Say = print
    ) -> None:
        self._room, self._binary, self._log, self._uid, self._say = room, binary, log, uid, say
        self._config = room / "valkey.conf"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def url(self) -> str:
        """The server's address, with its password; also when another process runs the server."""
        port = self._port or (self._room / "port").read_text()
        return f"redis://:{stored_secret(self._room / 'password', self._uid)}@127.0.0.1:{port}/0"

    async def start(self) -> str:
        """Start the server, load what it had kept, and return its URL. Raises `CannotStart`."""
        await process.end_leftovers(self._leftovers, "Valkey", self._say)
        for _ in range(3):
            if await self._launch():
                return self.url
        # What lies here are wake-ups and replay logs; Postgres has the truth, so a broken file must not stop a start.
        kept = self._room / f"appendonlydir.broken-{time.time_ns()}"
        if (self._room / "appendonlydir").exists():
            (self._room / "appendonlydir").rename(kept)
            self._say(f"Valkey: could not read its file, which is kept as {kept.name}; starting empty")
            if await self._launch():
                return self.url
        raise CannotStart(f"Valkey ended while starting; its log {self._log} ends:\n{process.tail(self._log)}")

    async def stop(self, seconds: float = 10.0) -> None:
        """Write everything out and end."""
        if self._process is not None:
            await process.stop(self._process, [(signal.SIGTERM, seconds)])

    def _leftovers(self) -> list[tuple[psutil.Process, signal.Signals]]:
        return [(one, signal.SIGTERM) for one in process.with_mark("valkey-server", str(self._config))]

    async def _launch(self) -> bool:
        """Start the server on a free port and wait until it has loaded its file; False when it ended instead."""
        self._port = process.free_port(self._room / "port")
        password = stored_secret(self._room / "password", self._uid)
        write_private(
            self._config, _CONFIG.format(port=self._port, password=password, directory=self._room), self._uid
        )
        self._process = process.spawn(
            [self._binary, self._config],
            log=self._log, env={"PATH": os.defpath}, uid=self._uid, cwd=self._room, orphaned=signal.SIGTERM,
        )  # fmt: skip
        began = told = time.monotonic()
        while self._process.poll() is None:
            if await self._answers(password):
                write_private(self._room / "port", str(self._port), self._uid)
                return True
            if time.monotonic() - told > 3:
                told = time.monotonic()
                self._say(f"Valkey: loading for {told - began:.0f} s")
            await asyncio.sleep(0.01)
        return False

    async def _answers(self, password: str) -> bool:
        """Whether a ping is answered: not while it does not listen yet, nor while it loads."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        try:
            writer.write(f"AUTH {password}\r\nPING\r\n".encode())
            answers = [await reader.readline(), await reader.readline()]
            return answers == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False
        finally:
            writer.close()
