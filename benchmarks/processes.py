"""Starts what is measured, ends it again, and reads what it costs from /proc."""

import asyncio
import os
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).parent.parent
END_SECONDS = 60.0
SERVICES = {"postgres": "postgres", "valkey-server": "valkey", "redis-server": "valkey", "bwrap": "sandbox"}


class DidNotStart(Exception):
    """A process ended, or did not answer in time."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def group_of(process: psutil.Process, parent: str) -> str:
    """Which bill a process goes on: a service and all below it on the service's own, what started the rest on `launcher`."""
    if parent in SERVICES.values():
        return parent
    if "backend.cli" in (command := process.cmdline()) and "up" in command:
        return "launcher"
    return SERVICES.get(process.name(), "app")


def tree(root: psutil.Process) -> list[tuple[str, psutil.Process]]:
    """The living processes of a tree with their groups, the root first."""
    found = [(group_of(root, ""), root)]
    for parent_group, parent in found:
        with suppress(psutil.NoSuchProcess):
            for child in parent.children():
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    found.append((group_of(child, parent_group), child))
    return found


def cpu_of(roots: Iterable[int]) -> dict[str, float]:
    """CPU seconds per group, with those of children that have ended (they go on their parent's bill)."""
    total: dict[str, float] = {}
    for pid in roots:
        for group, process in tree(psutil.Process(pid)):
            with suppress(psutil.NoSuchProcess):
                total[group] = total.get(group, 0.0) + sum(process.cpu_times()[:4])
    return total


def pss_mb_of(roots: Iterable[int]) -> dict[str, float]:
    """Memory in MB per group, pages that several share shared out (PSS); sandboxes are left out."""
    total: dict[str, float] = {}
    for pid in roots:
        for group, process in tree(psutil.Process(pid)):
            if group != "sandbox":
                with suppress(psutil.NoSuchProcess):
                    total[group] = total.get(group, 0.0) + process.memory_full_info().pss / 1e6
    return total


@dataclass
class Meter:
    """What the groups of some process trees, and this driver, have spent since it was made."""

    roots: Sequence[int]

    def __post_init__(self) -> None:
        self._begun = time.monotonic()
        self._before = self._now()
        self.seconds = 0.0

    def _now(self) -> dict[str, float]:
        own = os.times()
        return {**cpu_of(self.roots), "driver": own.user + own.system}

    def spent(self) -> dict[str, float]:
        """CPU seconds per group up to now; `seconds` tells over how long."""
        now = self._now()
        self.seconds = time.monotonic() - self._begun
        return {group: now[group] - self._before.get(group, 0.0) for group in now}


@dataclass(frozen=True)
class Running:
    """A process that answers. `started`: wall and CPU seconds its program took until then (see `start_cost`)."""

    pid: int
    started: Mapping[str, float]


@asynccontextmanager
async def running(
    module: str,
    *arguments: str,
    room: Path,
    ready: str,
    env: Mapping[str, str] | None = None,
    within: float = 120.0,
) -> AsyncIterator[Running]:
    """`python -m module` working in `room`, once the URL `ready` answers 200; ended on the way out. Raises `DidNotStart`."""
    log = log_of(room, module)
    with log.open("wb") as output:
        command = [sys.executable, "-m", module, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        process = await asyncio.create_subprocess_exec(
            *command, cwd=room, env=environment, stdout=output, stderr=output
        )
    try:
        await answers(ready, process, within, log)
        yield Running(process.pid, start_cost(process.pid))
    finally:
        await end(process)


def log_of(room: Path, module: str) -> Path:
    """Where a module started in `room` writes."""
    return room / f"{module}.log"


def start_cost(pid: int) -> dict[str, float]:
    """Wall and CPU seconds the programs of a tree have taken up to now; a launcher and its services are left out."""
    programs = [process for group, process in tree(psutil.Process(pid)) if group == "app"]
    return {
        "wall_s": max(age(program.pid) for program in programs),
        "cpu_s": sum(sum(program.cpu_times()[:4]) for program in programs),
    }


def age(pid: int) -> float:
    """Seconds since a process began. psutil's own start time is only as exact as the boot time: a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


async def answers(url: str, process: Process, within: float, log: Path) -> None:
    """Wait until a URL answers 200. Raises `DidNotStart`."""
    deadline = time.monotonic() + within
    while not await is_ready(url):
        ended = process.returncode is not None
        if ended or time.monotonic() > deadline:
            why = "ended" if ended else f"gave no 200 at {url} within {within:.0f} s"
            raise DidNotStart(f"{log.stem} {why}:\n{log.read_text(errors='replace')[-2000:]}")
        await asyncio.sleep(0.02)


async def is_ready(url: str) -> bool:
    """Whether a URL answers 200 now."""
    parts = urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except OSError:
        return False
    try:
        writer.write(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()
        )
        return b" 200 " in await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()


async def end(process: Process) -> None:
    """Ask a process to end; after a while make it. What it left behind is ended too."""
    if process.returncode is not None:
        return
    below = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    for left in below:
        if left.is_running():
            left.kill()
