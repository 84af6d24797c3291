"""Room on the disk. New work is refused before the disk is full, so that what runs can still end in order."""

import shutil
import time
from pathlib import Path

from backend.kit.problems import DiskFull

_MEGABYTE = 1_000_000
_FRESH_SECONDS = 1.0


class Disk:
    """The disk that `path` (or its nearest parent that exists) lies on, measured at most once a second."""

    def __init__(self, path: Path, least_free_mb: int) -> None:
        self._path, self._least = path, least_free_mb * _MEGABYTE
        self._free, self._measured_at = 0, float("-inf")

    def free_bytes(self) -> int:
        """Bytes that may still be written."""
        now = time.monotonic()
        if now - self._measured_at > _FRESH_SECONDS:
            place = self._path
            while not place.exists():
                place = place.parent
            self._free, self._measured_at = shutil.disk_usage(place).free, now
        return self._free

    def check(self) -> None:
        """Raise `DiskFull` when less is free than new work needs."""
        if (free := self.free_bytes()) < self._least:
            raise DiskFull(
                f"{free // _MEGABYTE} MB are free and {self._least // _MEGABYTE} MB are wanted. Free some space, or lower "
                "VIBE_MIN_FREE_MB. What runs already goes on.",
                setting="VIBE_MIN_FREE_MB",
            )
