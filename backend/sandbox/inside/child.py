"""One started command with its channel, and the log of what it printed."""

from __future__ import annotations

import contextlib
import os
import re
import time

from backend.sandbox.inside.frames import EARLY_BYTES, LOG_LIMIT, WINDOW, WORKSPACE

LOG_DIR = f"{WORKSPACE}/.vibe/logs"
LOGS_KEPT = 50
TAIL_BYTES = 64 * 1024
_NAME = re.compile(r"\d{8}-\d{6}-p\d+\.log")  # the directory is the commands' too: nothing else is removed


class Log:
    """Output of one command: in memory while small, then a file up to LOG_LIMIT, and the newest bytes beyond it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = 0
        self.kept = 0
        self.path: str | None = None
        self._early = bytearray()
        self._tail = bytearray()
        self._fd = -1
        self._spilled = False

    def feed(self, data: bytes) -> None:
        """Add output; a full disk only shortens what is kept."""
        self.size += len(data)
        if not self._spilled and self.size <= EARLY_BYTES:
            self._early += data
            self.kept = self.size
            return
        if not self._spilled:
            self._spill()
        room = LOG_LIMIT - self.kept
        if room > 0 and self._fd >= 0:
            try:
                self.kept += os.write(self._fd, data[:room])
            except OSError:
                self.close()
        self._tail += data
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    def read(self, offset: int, limit: int) -> tuple[int, bytes]:
        """(offset, bytes) from `offset` on; jumps over what was dropped."""
        if not self._spilled:
            return offset, bytes(self._early[offset : offset + limit])
        if offset < self.kept and self.path is not None:
            data = _range(self.path, offset, min(limit, self.kept - offset))
            if data:
                return offset, data
        oldest = self.size - len(self._tail)
        start = max(offset, oldest)
        return start, bytes(self._tail[start - oldest : start - oldest + limit])

    def close(self) -> None:
        """Nothing more goes to the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _spill(self) -> None:
        self._spilled = True
        early, self._early = self._early, bytearray()
        try:
            os.makedirs(LOG_DIR, exist_ok=True)
            old = sorted(name for name in os.listdir(LOG_DIR) if _NAME.fullmatch(name))
            for name in old[: -LOGS_KEPT + 1]:
                os.unlink(os.path.join(LOG_DIR, name))
            path = os.path.join(LOG_DIR, time.strftime("%Y%m%d-%H%M%S-") + self.name + ".log")
            self._fd = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            self.kept = os.write(self._fd, early)
            self.path = path
        except OSError:
            self.kept = 0
            self._tail += early
            self.close()


def _range(path: str, offset: int, length: int) -> bytes:
    """Bytes of a log file; it may have been replaced by anything meanwhile, so never wait for a FIFO."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with contextlib.closing(os.fdopen(fd, "rb", 0)):
            return os.pread(fd, length, offset)
    return b""


class Child:
    """One started command or file operation."""

    def __init__(self, channel: int, kind: str, command: str) -> None:
        self.channel = channel
        self.kind = kind
        self.command = command
        self.name = f"p{channel}"
        self.pid = 0
        self.started = time.monotonic()
        self.seconds = 0.0
        self.status: int | None = None
        self.reason: str | None = None
        self.deadline: float | None = None
        self.kill_at: float | None = None
        self.finish_at = 0.0
        self.reported = False
        # Bytes in: descriptor, what waits for it, whether it ends after that.
        self.stdin = -1
        self.pending: list[bytes] = []
        self.stdin_ends = False
        # Bytes out: frame kind by descriptor, what was written before the end by descriptor, the host's credit.
        self.outputs: dict[int, int] = {}
        self.owed: dict[int, int] = {}
        self.credit = WINDOW
        self.paused = False
        self.forwards = kind != "spawn"
        self.log = Log(self.name)

    def times(self) -> list[float]:
        """When something has to be done for it."""
        if self.reported:
            return []
        if self.status is not None:
            return [self.finish_at if self.outputs else 0.0]
        return [t for t in (self.deadline, self.kill_at) if t is not None]
