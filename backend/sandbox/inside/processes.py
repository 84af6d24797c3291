"""What can be seen of the box's processes in /proc."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_INODE = 1024  # what an empty file in memory takes of the kernel's, about
_SKIPPED = ("1", "self", "thread-self")


def every_process() -> Iterator[tuple[int, int, int, int]]:
    """(pid, parent, session, bytes of memory that no file backs) of every process but PID 1."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or name in _SKIPPED:
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            memory = _kilobytes(f"/proc/{name}/status", b"RssAnon:", b"RssShmem:")
        except OSError:
            continue
        if fields[0] != b"Z":
            yield int(name), int(fields[1]), int(fields[3]), memory * 1024


def _kilobytes(path: str, *fields: bytes) -> int:
    """The sum of some fields of a status file."""
    with open(path, "rb") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(fields))


def tree(root: int, cookie: bytes) -> set[int]:
    """Pids of a command's session, of its descendants, and of every process that carries its cookie."""
    processes = [process[:3] for process in every_process()]
    found = {pid for pid, _, session in processes if root and (pid == root or session == root)}
    grew = bool(found)
    while grew:
        more = {pid for pid, parent, _ in processes if parent in found} - found
        found |= more
        grew = bool(more)
    return found | {pid for pid, _, _ in processes if pid not in found and _carries(pid, cookie)}


def _carries(pid: int, cookie: bytes) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return cookie in file.read(128 * 1024).split(b"\0")
    return False


def usage() -> tuple[int, int, int]:
    """(bytes of memory at most, processes, pid of the largest); memory that processes share is counted for each, files
    in memory count too."""
    total, count, largest, most = _files_in_memory(), 0, 0, -1
    for pid, _, _, memory in every_process():
        total += memory
        count += 1
        if memory > most:
            largest, most = pid, memory
    return total, count, largest


def exact_memory() -> int:
    """Bytes of memory, what processes share counted once. Takes far longer than `usage`."""
    total = _files_in_memory()
    for pid, _, _, _ in every_process():
        with contextlib.suppress(OSError):
            total += _kilobytes(f"/proc/{pid}/smaps_rollup", b"Pss_Anon:", b"Pss_Shmem:") * 1024
    return total


def _files_in_memory() -> int:
    total = 0
    for path in ("/tmp", "/dev/shm"):
        space = os.statvfs(path)
        total += (space.f_blocks - space.f_bfree) * space.f_frsize + (space.f_files - space.f_ffree) * _INODE
    return total


def exit_code(status: int | None) -> int | None:
    """The shell's number for how a process ended: 128 + signal when a signal ended it."""
    if status is None:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
