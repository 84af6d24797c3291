"""Child processes that do not outlive us, and what is left of those that an earlier, killed product started."""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

Say = Callable[[str], None]

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def with_parent(end: signal.Signals) -> Callable[[], None]:
    """What a child runs before its program: ask the kernel to send it `end` when this process is gone."""
    parent = os.getpid()

    def arrange() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(end))
        if os.getppid() != parent:  # it died between the fork and the request
            os._exit(1)

    return arrange


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    uid: int | None = None,
    cwd: Path | None = None,
    orphaned: signal.Signals = signal.SIGKILL,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in its own process group, under `uid` when given, with its output appended to `log`.

    When this process dies, however it dies, the child is sent `orphaned`. Call it from the main thread: the kernel
    watches the thread that forked.
    """
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log else None
        return subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if env is None else dict(env),
            cwd=cwd,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
            umask=0o077,
            pass_fds=pass_fds,
            start_new_session=True,
            preexec_fn=with_parent(orphaned),  # noqa: PLW1509 (it makes two system calls and takes no lock)
        )


async def ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait at most `seconds` for the process's end; whether it came."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return process.returncode is not None


async def stop(process: subprocess.Popen[bytes], steps: Iterable[tuple[signal.Signals, float]]) -> None:
    """Send each signal and wait its seconds until the process has ended; after the last one, kill it."""
    for sent, seconds in (*steps, (signal.SIGKILL, 10.0)):
        if process.poll() is not None:
            return
        process.send_signal(sent)
        if await ended(process, seconds):
            return


def free_port(remembered: Path | None = None) -> int:
    """A port that is free on 127.0.0.1: the one in the file `remembered` if it still is, else any."""
    wanted = 0
    if remembered is not None and remembered.exists():
        wanted = int(remembered.read_text().strip() or 0)
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise OSError("no port is free on 127.0.0.1")


def with_mark(program: str, mark: str) -> list[psutil.Process]:
    """Running processes of `program` whose command line carries `mark` (readable without any privilege)."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if words and program in words[0] and any(mark in word for word in words):
                found.append(process)
    return found


async def end_leftovers(find: Callable[[], list[tuple[psutil.Process, signal.Signals]]], name: str, say: Say) -> None:
    """End what `find` names (each with the signal that ends it cleanly); after a minute kill it. Says what it waits for."""
    began = told = time.monotonic()
    asked: set[int] = set()
    while left := find():
        now = time.monotonic()
        for process, sent in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                if now - began > 60:
                    process.kill()
                elif process.pid not in asked:
                    asked.add(process.pid)
                    process.send_signal(sent)
        if now - told > 3:
            told = now
            say(f"{name}: waiting for {len(left)} processes of an earlier start to end")
        await asyncio.sleep(0.02)


def tail(log: Path, lines: int = 5) -> str:
    """The last lines of a log, for an error message."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
