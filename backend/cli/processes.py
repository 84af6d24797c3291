"""The processes of `vibe up` as data, and the supervisor that starts, watches and stops them.

A new kind of process is a new row of `table`; the supervisor knows none of them by name.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from backend.embedded import process
from backend.kit.settings import Settings

_LONG_LIFE = 30.0  # seconds after which a process that ends has not failed at once
_BACKOFF = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
_LOG_BYTES = 20_000_000


@dataclass(frozen=True)
class Row:
    """A kind of process: what `vibe` is called with, how many, and how long one may take to end in order."""

    name: str
    arguments: tuple[str, ...]
    count: int
    stop_seconds: float
    pass_fds: tuple[int, ...] = ()


def table(settings: Settings, listening_fd: int) -> list[Row]:
    """What `vibe up` runs on top of the two servers, in the order of starting; stopping goes the other way.

    All api processes share the one listening socket, which the supervisor keeps: connections that come while an api
    process is being replaced wait in it instead of being refused.
    """
    return [
        Row("worker", ("worker",), settings.vibe_workers, stop_seconds=15.0),
        Row("api", ("api", "--fd", str(listening_fd)), settings.vibe_apis, stop_seconds=8.0, pass_fds=(listening_fd,)),
    ]


class Service(Protocol):
    """What can be supervised: a process of ours, or an embedded server."""

    @property
    def running(self) -> bool:
        """Whether it lives."""

    async def start(self) -> object:
        """Start it; also after it has died."""

    async def stop(self) -> None:
        """End it in order, and by force when that takes too long."""


class Child:
    """One process of a row, logging into a file of its own."""

    def __init__(self, row: Row, environment: Callable[[], dict[str, str]], log: Path) -> None:
        self._row, self._environment, self.log = row, environment, log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def ending(self) -> str:
        """How it ended, for a sentence."""
        code = self._process.returncode if self._process else None
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    async def start(self) -> None:
        """Start the process."""
        self._process = process.spawn(
            [sys.executable, "-m", "backend.cli", *self._row.arguments],
            env=self._environment(),
            log=self.log,
            pass_fds=self._row.pass_fds,
        )

    async def stop(self) -> None:
        """Ask it to end (SIGTERM), and force it when its time is over."""
        if self._process is not None:
            await process.stop(self._process, [(signal.SIGTERM, self._row.stop_seconds)])


@dataclass
class _Watched:
    name: str
    service: Service
    started_at: float
    deaths: int = 0
    log: Path | None = None
    read: int = field(default=0)


class Supervisor:
    """Starts services, starts again what dies, and stops all in reverse order."""

    def __init__(self, say: process.Say) -> None:
        self._say = say
        self._watched: list[_Watched] = []
        self._watchers: list[asyncio.Task[None]] = []

    async def start(self, name: str, service: Service) -> None:
        """Start a service and watch it from now on."""
        log = service.log if isinstance(service, Child) else None
        watched = _Watched(name, service, time.monotonic(), log=log, read=log.stat().st_size if log and log.exists() else 0)
        self._watched.append(watched)
        await service.start()
        self._watchers.append(asyncio.create_task(self._watch(watched)))

    def failing(self) -> str | None:
        """Name and last log lines of a process of ours that died three times in a row, each time at once."""
        for watched in self._watched:
            if watched.deaths >= 3 and watched.log is not None:
                return f"{watched.name} does not stay up; its log {watched.log} ends:\n{process.tail(watched.log, 15)}"
        return None

    async def stop(self) -> None:
        """Stop everything in reverse order of starting; services of one kind at the same time."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        while self._watched:
            kind = self._watched[-1].name.split()[0]
            together = [watched for watched in self._watched if watched.name.split()[0] == kind]
            self._watched = [watched for watched in self._watched if watched not in together]
            self._say(f"stopping {kind}")
            await asyncio.gather(*(watched.service.stop() for watched in together))

    async def _watch(self, watched: _Watched) -> None:
        while True:
            await asyncio.sleep(0.1)
            self._follow(watched)
            if not watched.service.running:
                await self._start_again(watched)

    async def _start_again(self, watched: _Watched) -> None:
        lived = time.monotonic() - watched.started_at
        watched.deaths = 1 if lived > _LONG_LIFE else watched.deaths + 1
        how = f" ({watched.service.ending})" if isinstance(watched.service, Child) else ""
        delay = _BACKOFF[min(watched.deaths - 1, len(_BACKOFF) - 1)]
        self._say(f"{watched.name} ended{how}; starting it again" + (f" in {delay:g} s" if delay else ""))
        await asyncio.sleep(delay)
        watched.started_at = time.monotonic()
        try:
            await watched.service.start()
        except Exception as error:  # whatever it was, the next round tries again
            self._say(f"{watched.name} could not be started: {error}")

    def _follow(self, watched: _Watched) -> None:
        """Show what a process of ours logged as a warning or worse, and keep its log from growing without bound."""
        if watched.log is None or not watched.log.exists():
            return
        size = watched.log.stat().st_size
        if size > watched.read:
            with watched.log.open("rb") as file:
                file.seek(watched.read)
                chunk = file.read(min(size - watched.read, 65536)).rpartition(b"\n")[0]
            watched.read = watched.read + len(chunk) + 1 if chunk else watched.read
            for line in short_lines(chunk.decode(errors="replace").splitlines()):
                self._say(f"{watched.name}: {line}")
        if size > _LOG_BYTES:
            # The processes append, so the file may be emptied under them.
            watched.log.with_suffix(".log.1").write_bytes(watched.log.read_bytes())
            os.truncate(watched.log, 0)
            watched.read = 0


def short_lines(lines: Sequence[str]) -> list[str]:
    """Of structured log lines the warnings and errors, each as one sentence; at most twenty."""
    import json

    short = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("warning", "error", "critical"):
            detail = entry.get("error") or str(entry.get("exception", "")).rpartition("\n")[2]
            short.append(f"{entry['level']}: {entry.get('message', '')}" + (f" ({detail})" if detail else ""))
    return short[:20]
