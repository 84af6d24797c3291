"""What can be seen of the box's processes in /proc."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

_INODE = 1024  # what an empty file in memory takes of the kernel's, about
_PAGE = resource.getpagesize()
_SKIPPED = ("1", "self", "thread-self")


def every_process() -> Iterator[tuple[int, int, int, int]]:
    """(pid, parent, session, bytes of memory not shared) of every process but PID 1."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or name in _SKIPPED:
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            with open(f"/proc/{name}/statm", "rb") as file:
                memory = file.read().split()
        except OSError:
            continue
        if fields[0] != b"Z":
            yield int(name), int(fields[1]), int(fields[3]), (int(memory[1]) - int(memory[2])) * _PAGE


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
    """(bytes of memory, processes, pid of the largest); files in memory count too."""
    total, count, largest, most = 0, 0, 0, -1
    for pid, _, _, memory in every_process():
        total += memory
        count += 1
        if memory > most:
            largest, most = pid, memory
    for path in ("/tmp", "/dev/shm"):
        space = os.statvfs(path)
        total += (space.f_blocks - space.f_bfree) * space.f_frsize + (space.f_files - space.f_ffree) * _INODE
    return total, count, largest


def exit_code(status: int | None) -> int | None:
    """The shell's number for how a process ended: 128 + signal when a signal ended it."""
    if status is None:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
