"""The data directory: 0711 itself, each room in it 0700 of its own uid, held by one product at a time."""

import fcntl
import json
import os
import secrets
import time
from pathlib import Path

from backend.embedded.errors import InUse, Unreachable

# Started as root, each server runs under a uid of its own that no account has. The numbers lie between those that
# systemd and distributions hand out, and below 65536 so that they exist in a rootless container too.
POSTGRES_UID = 61101
VALKEY_UID = 61102


def dropped_uid(uid: int) -> int | None:
    """`uid` for a process started by root, None (stay who we are) for everybody else."""
    return uid if os.geteuid() == 0 else None


def write_private(path: Path, text: str, uid: int | None = None) -> None:
    """Write `text` to a file that only `uid` (default: this process's) may read; the file is whole or not there."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        if uid is not None:
            os.fchown(file.fileno(), uid, uid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def stored_secret(path: Path, uid: int | None = None) -> str:
    """The secret kept in the 0600 file `path`, made at random when it is not there yet."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32), uid)
    return path.read_text().strip()


class DataDirectory:
    """Everything the product keeps on disk. `hold` it before anything is started on it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    def create(self) -> None:
        """Make the directory with its mode. Raises `Unreachable` when root's servers could not enter it."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o711)
        if os.geteuid() == 0:
            closed = [str(parent) for parent in self.path.parents if not parent.stat().st_mode & 0o001]
            if closed:
                raise Unreachable(
                    f"As root the database runs under its own uid, which cannot enter {closed[-1]}. Set VIBE_DATA_DIR "
                    "to a place that others may pass through, such as /var/lib/vibe, or start as a plain user."
                )

    def room(self, name: str, uid: int | None = None) -> Path:
        """The directory `name` in it: 0700, of `uid` (default: this process's own)."""
        room = self.path / name
        room.mkdir(mode=0o700, exist_ok=True)
        if uid is not None and room.stat().st_uid != uid:
            os.chown(room, uid, uid)
        room.chmod(0o700)
        return room

    def programs(self) -> Path | None:
        """Where root's servers find copies of their binaries; None for everybody else, who runs the packages' own."""
        if os.geteuid() != 0:
            return None
        programs = self.path / "programs"
        programs.mkdir(exist_ok=True)
        programs.chmod(0o755)
        return programs

    def hold(self) -> None:
        """Become the one product that runs here, until `release` or the end of the process. Raises `InUse`."""
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        for attempt in range(5):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.02 * attempt)  # it may be the moment in which somebody asks whether it is held
        else:
            holder = self.holder()
            os.close(lock)
            raise InUse(f"VIBE AI already runs on {self.path}{holder}. Stop it first, or set VIBE_DATA_DIR.")
        self._lock = lock
        self.announce(None)

    def announce(self, address: str | None) -> None:
        """Tell a second start where this product can be reached."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, json.dumps({"pid": os.getpid(), "address": address}).encode(), 0)

    def holder(self) -> str:
        """Who holds the directory, for a sentence: ` (process 12, http://…)`; empty when that is not known."""
        told = self._told()
        known = [f"process {told['pid']}"] * ("pid" in told) + [str(told["address"])] * bool(told.get("address"))
        return f" ({', '.join(known)})" if known else ""

    def _told(self) -> dict[str, object]:
        try:
            told = json.loads((self.path / "lock").read_text())
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}

    def held(self) -> bool:
        """Whether a product runs here (another process than this one, or this one)."""
        try:
            probe = os.open(self.path / "lock", os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(probe)
        return False

    def address(self) -> str | None:
        """Where the product that runs here can be reached; None when none runs or it is still starting."""
        if not self.held():
            return None
        address = self._told().get("address")
        return address if isinstance(address, str) else None

    def release(self) -> None:
        """Let another product run here."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None
