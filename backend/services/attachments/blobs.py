"""Contents on disk: `blobs/ab/ab…`, named by their SHA-256, whole or not there, read by this product alone."""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from backend.kit.ids import uuid7
from backend.kit.problems import TooLarge
from backend.services.attachments.kinds import Sniffer

_INCOMING = "incoming"
_PIECE = 1_000_000
_GRACE_SECONDS = 86_400.0


class Blobs:
    """The contents of one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "blobs"

    def path(self, sha256: bytes) -> Path:
        """Where a content lies, or would."""
        name = sha256.hex()
        return self._folder / name[:2] / name

    async def keep(self, pieces: AsyncIterator[bytes], most: int) -> tuple[bytes, int, Sniffer]:
        """Write what comes to disk, once for each content: its SHA-256, its size, and what it looked like. Raises `TooLarge`."""
        await asyncio.to_thread(self._make, _INCOMING)
        draft, digest, size, sniffer = self._folder / _INCOMING / uuid7().hex, hashlib.sha256(), 0, Sniffer()
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            async for piece in _gathered(pieces):
                size += len(piece)
                if size > most:
                    raise TooLarge(f"A file may have {most:,} bytes.", setting="VIBE_MAX_ATTACHMENT_MB")
                digest.update(piece)
                sniffer.feed(piece)
                await asyncio.to_thread(_write, file, piece)
            await asyncio.to_thread(os.fsync, file)
            await asyncio.to_thread(self._place, draft, digest.digest())
        finally:
            os.close(file)
            draft.unlink(missing_ok=True)
        return digest.digest(), size, sniffer

    def _place(self, draft: Path, sha256: bytes) -> None:
        target = self.path(sha256)
        self._make(target.parent.name)
        with self._alone():
            draft.rename(target)  # also over the same content: now it is young, and nobody tidies it away

    def _make(self, name: str) -> None:
        for folder in (self._folder, self._folder / name):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else places or removes meanwhile, in any process."""
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def old(self) -> list[bytes]:
        """Contents that lie here for more than a day. What an upload left behind that was broken off goes at once."""
        for draft in self._folder.glob(f"{_INCOMING}/*"):
            if _is_old(draft):
                draft.unlink(missing_ok=True)
        return [bytes.fromhex(path.name) for path in self._folder.glob("??/*") if len(path.name) == 64 and _is_old(path)]

    def remove(self, contents: Sequence[bytes]) -> int:
        """Delete contents that nobody names, but for those that somebody has uploaded meanwhile."""
        removed = 0
        for sha256 in contents:
            path = self.path(sha256)
            with self._alone():
                if _is_old(path):
                    path.unlink()
                    removed += 1
        return removed


def _is_old(path: Path) -> bool:
    """Whether it lies here, and has for more than a day."""
    try:
        return path.stat().st_mtime < time.time() - _GRACE_SECONDS
    except FileNotFoundError:
        return False


async def _gathered(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in fewer pieces."""
    held = bytearray()
    async for piece in pieces:
        held += piece
        if len(held) >= _PIECE:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
