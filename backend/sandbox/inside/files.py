"""File operations. Each runs in a process of its own with the workspace as its directory, its data on the standard
streams, so that neither a FIFO nor a huge file nor a slow pattern can hold up the supervisor."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

from backend.sandbox.inside.frames import CHUNK, WORKSPACE, Problem

HASH_LIMIT = 64 * 1024 * 1024
SEARCHED_BYTES = 4 * 1024 * 1024
LINE = 300
_UNSEARCHED = {".git", "node_modules", "__pycache__", ".vibe", ".venv"}

_CODES = {
    errno.ENOENT: "not_found",
    errno.ENOTDIR: "not_found",
    errno.ENOSPC: "quota",
    errno.EDQUOT: "quota",
    errno.EFBIG: "quota",
    errno.EAGAIN: "quota",
    errno.ENOMEM: "quota",
    errno.EEXIST: "conflict",
    errno.ENOTEMPTY: "conflict",
}


def problem_of(error: OSError) -> dict[str, str]:
    """The answer for an operating-system error."""
    text = "too many processes" if error.errno == errno.EAGAIN else error.strerror or str(error)
    if error.filename is not None:
        text = f"{text}: {error.filename}"
    return {"error": _CODES.get(error.errno or 0, "invalid"), "text": text}


def run(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Do one operation: its answer, or the problem."""
    try:
        return OPERATIONS[name](**arguments)
    except Problem as problem:
        return {"error": problem.code, "text": str(problem)}
    except OSError as error:
        return problem_of(error)
    except Exception as error:  # the edge of this process: whatever it is, the caller hears of it
        return {"error": "invalid", "text": f"{type(error).__name__}: {error}"}


def write_all(fd: int, data: bytes) -> None:
    """Write every byte."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _open_regular(path: str) -> int:
    """A descriptor of a regular file; never waits for a FIFO or a device."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise Problem("invalid", f"{path} is {'a directory' if stat.S_ISDIR(mode) else 'not a regular file'}")
    return fd


def _digest_of(path: str) -> str:
    """sha256 of a regular file, "" when it does not exist."""
    import hashlib

    try:
        fd = _open_regular(path)
    except FileNotFoundError:
        return ""
    digest = hashlib.sha256()
    while data := os.read(fd, 1 << 20):
        digest.update(data)
    os.close(fd)
    return digest.hexdigest()


def read(path: str, offset: int, length: int) -> dict[str, Any]:
    """A range of a file on standard output."""
    fd = _open_regular(path)
    size = os.fstat(fd).st_size
    digest = _digest_of(path) if size <= HASH_LIMIT else None
    at, end = offset, min(size, offset + length)
    while at < end:
        data = os.pread(fd, min(CHUNK, end - at), at)
        if not data:
            break
        write_all(1, data)
        at += len(data)
    return {"size": size, "sha256": digest}


def write(path: str, expected: str | None, mode: int | None) -> dict[str, Any]:
    """Replace a file by standard input, all or nothing."""
    import hashlib

    path = os.path.realpath(path)
    if os.path.isdir(path):
        raise Problem("invalid", f"{path} is a directory")
    if expected is not None and _digest_of(path) != expected:
        raise Problem("conflict", f"{path} has changed since it was read")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if mode is None:
        mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o644
    scratch = os.path.join(os.path.dirname(path), f".vibe-write-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(scratch)  # of an operation that was killed
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    digest = hashlib.sha256()
    try:
        while data := os.read(0, CHUNK):
            digest.update(data)
            write_all(fd, data)
        os.fchmod(fd, mode & 0o777)
        os.rename(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise
    return {"sha256": digest.hexdigest()}


def _describe(path: str) -> list[Any]:
    info = os.lstat(path)
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}
    kind = kinds.get(stat.S_IFMT(info.st_mode), "other")
    target = _clean(os.readlink(path)) if kind == "symlink" else None
    return [_clean(path), kind, info.st_size, stat.S_IMODE(info.st_mode), info.st_mtime, target]


def _clean(name: str) -> str:
    """A name as text, whatever bytes it has."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def stat_(path: str) -> dict[str, Any]:
    """One entry."""
    return {"entry": _describe(os.path.abspath(path))}


def list_(path: str, depth: int, limit: int) -> dict[str, Any]:
    """Entries below a directory on standard output, nearest first when there are too many."""
    entries: list[list[Any]] = []
    level, truncated = [os.path.abspath(path)], False
    os.listdir(level[0])
    for _ in range(depth):
        below: list[str] = []
        for entry in (entry for folder in level for entry in _entries(folder)):
            if len(entries) >= limit:
                truncated = True
                break
            entries.append(entry)
            if entry[1] == "dir":
                below.append(entry[0])
        level = below
    entries.sort(key=lambda entry: str(entry[0]))
    write_all(1, json.dumps(entries).encode())
    return {"truncated": truncated}


def _entries(folder: str) -> Iterator[list[Any]]:
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):
            with contextlib.suppress(OSError):
                yield _describe(os.path.join(folder, name))


def move(source: str, target: str) -> dict[str, Any]:
    """Rename, across file systems too; never overwrites."""
    os.lstat(source)
    if os.path.lexists(target):
        raise Problem("conflict", f"{target} exists already")
    os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        import shutil

        shutil.move(source, target)
    return {}


def delete(path: str) -> dict[str, Any]:
    """Remove a file, a link, or a directory with all below it."""
    if os.path.abspath(path) == WORKSPACE:
        raise Problem("invalid", "the workspace itself is not deleted")
    if os.path.isdir(path) and not os.path.islink(path):
        import shutil

        shutil.rmtree(path)
    else:
        os.unlink(path)
    return {}


def _walk(root: str) -> Iterator[str]:
    if not os.path.isdir(root):
        os.lstat(root)
        yield root
        return
    for folder, names, found in os.walk(root):
        names[:] = sorted(set(names) - _UNSEARCHED)
        for name in sorted(found):
            yield os.path.join(folder, name)


def search(pattern: str, path: str, glob: str, regex: bool, limit: int) -> dict[str, Any]:
    """Matching lines on standard output; an empty pattern matches files by name alone."""
    import fnmatch
    import re

    try:
        wanted = re.compile(pattern if regex else re.escape(pattern))
    except re.error as error:
        raise Problem("invalid", f"bad pattern: {error}") from None
    matches: list[list[Any]] = []
    root = os.path.abspath(path)
    for name in _walk(root):
        relative = os.path.relpath(name, root)
        if not (fnmatch.fnmatch(os.path.basename(name), glob) or fnmatch.fnmatch(relative, glob)):
            continue
        for line, text in _lines(name, wanted.search, limit - len(matches) + 1) if pattern else [(0, "")]:
            matches.append([_clean(name), line, text])
        if len(matches) > limit:
            break
    write_all(1, json.dumps(matches[:limit]).encode())
    return {"truncated": len(matches) > limit}


def _lines(name: str, matches: Callable[[str], Any], limit: int) -> list[tuple[int, str]]:
    """Up to `limit` (number, line) of a text file's first bytes."""
    try:
        fd = _open_regular(name)
    except (OSError, Problem):
        return []
    with os.fdopen(fd, "rb") as file:
        data = file.read(SEARCHED_BYTES)
    if b"\0" in data[:8192]:
        return []
    found = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if matches(line):
            found.append((number, line[:LINE]))
            if len(found) >= limit:
                break
    return found


def archive(path: str) -> dict[str, Any]:
    """A tar.gz on standard output: files, directories and links that belong to nobody."""
    import gzip
    import tarfile

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member if member.isreg() or member.isdir() or member.issym() or member.islnk() else None

    full = os.path.abspath(path)
    os.lstat(full)
    with (
        os.fdopen(os.dup(1), "wb", CHUNK) as out,
        gzip.GzipFile("", "wb", 3, out, 0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        tar.add(full, arcname=os.path.basename(full) or "root", filter=plain)
    return {}


def disk_usage(root: str = WORKSPACE) -> tuple[int, int]:
    """(bytes, files) below a directory."""
    size, count = 0, 0
    for folder, names, found in os.walk(root):
        for name in found + names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(folder, name)).st_blocks * 512
            count += 1
    return size, count


OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "read": read,
    "write": write,
    "stat": stat_,
    "list": list_,
    "move": move,
    "delete": delete,
    "search": search,
    "archive": archive,
}
