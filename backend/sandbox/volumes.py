"""Workspaces on disk: a directory each, of its own uid when started as root, on a small file system of its own.

<root>/              0711, the service's
<root>/<workspace>/  0711, the service's: `lock`, `wanted`, `number`, `running`, `disk.img`
<root>/<workspace>/files/   0700, the box's uid: what the box sees as /workspace
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backend.sandbox.protocol import Limits, SandboxBusy, SandboxUnavailable, check_workspace

_UID_BASES = (1_879_100_000, 300_000, 20_000)
_UIDS = 1_000_000


@dataclass
class Volume:
    """A workspace that this process holds: nobody else can until `release`."""

    workspace: str
    directory: Path
    uid: int | None
    hard_quota: bool
    _lock: int

    @property
    def files(self) -> Path:
        """What the box sees as /workspace."""
        return self.directory / "files"

    def note_running(self, commands: list[str]) -> None:
        """Remember what runs, for the box after this one."""
        text = json.dumps(commands)
        with contextlib.suppress(OSError):
            (self.directory / "running").write_text(text)

    def was_running(self) -> tuple[str, ...]:
        """What ran when the last box stopped."""
        try:
            return tuple(json.loads((self.directory / "running").read_text()))
        except (OSError, ValueError):
            return ()

    @property
    def wanted(self) -> bool:
        """Whether another process has asked for it since we hold it."""
        return (self.directory / "wanted").exists()

    def release(self) -> None:
        """Unmount and let others have it."""
        if self._lock >= 0:
            unmount(self.files)
            os.close(self._lock)
            self._lock = -1


class Volumes:
    """All workspaces below one directory."""

    def __init__(self, root: Path, loop_images: bool = True) -> None:
        self.root = root
        self.as_root = os.geteuid() == 0
        self._wants_images = loop_images and self.as_root and os.path.exists("/dev/loop-control")
        self.image_failure = "" if self._wants_images else "loop devices need root and /dev/loop-control"

    @property
    def images(self) -> bool:
        """Whether workspaces get a file system of their own, with a hard limit of bytes and files."""
        return self._wants_images and not self.image_failure

    def prepare(self) -> None:
        """Make the root directory. Raises SandboxUnavailable when box uids could not pass through its parents."""
        self.root.mkdir(parents=True, exist_ok=True)
        if not self.as_root:
            return
        self.root.chmod(0o711)
        for parent in (self.root, *self.root.parents):
            if not parent.stat().st_mode & 0o001:
                raise SandboxUnavailable(
                    f"The directory {parent} is closed to the sandbox's own user.",
                    "Set VIBE_DATA_DIR to a directory whose parents others may pass through, e.g. /var/lib/vibe.",
                )

    def take(self, workspace: str, limits: Limits) -> Volume:
        """Hold a workspace, making it when new. Raises SandboxBusy while another process holds it, which learns that it is wanted."""
        directory = self.root / check_workspace(workspace)
        directory.mkdir(exist_ok=True)
        directory.chmod(0o711)  # whatever the umask is
        try:
            lock = _lock(directory)
        except SandboxBusy:
            (directory / "wanted").touch()
            raise
        try:
            (directory / "wanted").unlink(missing_ok=True)
            uid = self._uid(directory) if self.as_root else None
            hard = self._make_files(directory, uid, limits)
            return Volume(workspace, directory, uid, hard, lock)
        except BaseException:
            os.close(lock)
            raise

    def orphans(self) -> Iterator[Volume]:
        """Every workspace that nobody holds, held by us while it is looked at."""
        for directory in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            if directory.name.startswith(".") or not directory.is_dir():
                continue
            try:
                lock = _lock(directory)
            except SandboxBusy:
                continue
            volume = Volume(directory.name, directory, None, False, lock)
            try:
                yield volume
            finally:
                volume.release()

    def names(self, prefix: str) -> list[str]:
        """Workspaces whose id begins so."""
        return [path.name for path in self.root.glob(f"{prefix}*")] if self.root.is_dir() else []

    def destroy(self, workspace: str) -> None:
        """Delete a workspace for good. Raises SandboxBusy while a process holds it."""
        directory = self.root / check_workspace(workspace)
        if not directory.is_dir():
            return
        lock = _lock(directory)
        try:
            unmount(directory / "files")
            _open_up(directory / "files")
            shutil.rmtree(directory)
        finally:
            os.close(lock)

    def _uid(self, directory: Path) -> int:
        """The workspace's uid: given once, never to two."""
        number = directory / "number"
        if not number.is_symlink():
            with _held(self.root / ".lock"):
                last = self.root / ".last"
                given = int(os.readlink(last)) + 1 if last.is_symlink() else 1
                _write_link(last, str(given))
            _write_link(number, str(given))
        return _uid_base() + int(os.readlink(number)) % _UIDS

    def _make_files(self, directory: Path, uid: int | None, limits: Limits) -> bool:
        """Make and mount `files`; True when its file system enforces the disk limits."""
        files = directory / "files"
        image = directory / "disk.img"
        new = not files.exists()
        files.mkdir(mode=0o700, exist_ok=True)
        if os.path.ismount(files):
            return True
        if image.exists() or (new and self.images):
            try:
                self._mount(image, files, limits)
            except (OSError, subprocess.SubprocessError) as error:
                if not new:
                    raise SandboxUnavailable(
                        f"The workspace's disk image cannot be mounted: {error}.", "Load the loop module."
                    ) from error
                self.image_failure = f"a loop device could not be mounted: {error}"
                image.unlink(missing_ok=True)
        if uid is not None:
            os.chown(files, uid, uid)
            files.chmod(0o700)
        return os.path.ismount(files)

    def _mount(self, image: Path, files: Path, limits: Limits) -> None:
        if not image.exists():
            template = self._template(limits)
            scratch = image.with_suffix(".new")
            _copy_sparse(template, scratch)
            scratch.rename(image)
        _run("mount", "-t", "ext4", "-o", "loop,nosuid,nodev,noatime", str(image), str(files))
        with contextlib.suppress(OSError):
            (files / "lost+found").rmdir()

    def _template(self, limits: Limits) -> Path:
        """An empty file system of this size, made once: copying it is far quicker than making one."""
        template = self.root / f".ext4-{limits.disk_mb}-{limits.inodes}"
        if not template.exists():
            scratch = template.with_name(f"{template.name}.{os.getpid()}")
            with scratch.open("wb") as file:
                file.truncate(limits.disk_mb << 20)
            scratch.chmod(0o600)
            _run(
                "mkfs.ext4",
                "-q",
                "-F",
                "-m",
                "0",
                "-N",
                str(limits.inodes),
                "-J",
                "size=4",
                "-E",
                "nodiscard",
                str(scratch),
            )
            scratch.rename(template)
        return template


def unmount(files: Path) -> None:
    """Unmount if mounted; lazily when something still looks at it."""
    if os.geteuid() == 0 and os.path.ismount(files):
        try:
            _run("umount", str(files))
        except (OSError, subprocess.SubprocessError):
            _run("umount", "--lazy", str(files))


def _uid_base() -> int:
    """The first uid of ours, far from people's and services', within what this user namespace has."""
    spans = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    for base in _UID_BASES:
        if any(start <= base and base + _UIDS <= start + count for start, _, count in spans):
            return base
    return 20_000


def _lock(directory: Path) -> int:
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise SandboxBusy(f"workspace {directory.name} is open in another worker") from None
    return fd


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _write_link(path: Path, text: str) -> None:
    """Keep a short text as a link's target: unlike a file it is never found half written after a power cut."""
    scratch = path.with_name(f"{path.name}.new")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(text)
    scratch.rename(path)


def _open_up(files: Path) -> None:
    """Make every directory deletable: commands may have closed their own, and may have left links to anywhere."""
    for folder, names, _ in os.walk(files):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)


def _copy_sparse(source: Path, target: Path) -> None:
    """Copy only what holds data."""
    with source.open("rb") as reader, target.open("wb") as writer:
        target.chmod(0o600)
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        at = 0
        while at < size:
            try:
                start = os.lseek(reader.fileno(), at, os.SEEK_DATA)
            except OSError:  # no more data
                break
            at = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
            offset = start
            while offset < at:
                count = os.copy_file_range(reader.fileno(), writer.fileno(), at - offset, offset, offset)
                if count == 0:
                    raise OSError(f"{source} ended early")
                offset += count


def _run(*command: str) -> None:
    """Run a system tool; its words become the error."""
    result = subprocess.run(
        command,
        capture_output=True,
        check=False,
        timeout=30,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C"},
    )
    if result.returncode:
        raise subprocess.SubprocessError(f"{command[0]}: {result.stderr.decode('utf-8', 'replace').strip()}")
