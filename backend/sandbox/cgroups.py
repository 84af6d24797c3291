"""Hard limits by control groups, where this process may make them: version 2 when delegated, version 1 beside it."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from backend.sandbox.protocol import Limits

_GROUP = "vibe-sandbox"


@dataclass(frozen=True)
class Hierarchy:
    """A directory of the control-group tree that is ours, and the controllers that work in it."""

    version: int
    parent: Path
    controllers: frozenset[str]


@dataclass(frozen=True)
class Groups:
    """The groups of one box, one per hierarchy."""

    name: str
    directories: tuple[tuple[Hierarchy, Path], ...]

    @property
    def entrances(self) -> list[str]:
        """Files that a process writes its pid to in order to enter."""
        return [str(directory / "cgroup.procs") for _, directory in self.directories]

    def out_of_memory_kills(self) -> int:
        """How often the kernel has killed here because memory ran out."""
        for hierarchy, directory in self.directories:
            if "memory" in hierarchy.controllers:
                name = "memory.events" if hierarchy.version == 2 else "memory.oom_control"
                for line in _read(directory / name).splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

    def memory(self) -> int | None:
        """Bytes in use, None without a memory controller."""
        for hierarchy, directory in self.directories:
            if "memory" in hierarchy.controllers:
                name = "memory.current" if hierarchy.version == 2 else "memory.usage_in_bytes"
                text = _read(directory / name)
                return int(text) if text.strip() else None
        return None

    def kill(self) -> None:
        """Kill what is left in the groups."""
        for _, directory in self.directories:
            for pid in _read(directory / "cgroup.procs").split():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(int(pid), signal.SIGKILL)

    def remove(self) -> bool:
        """Remove the groups; False while something still lives in them."""
        gone = True
        for _, directory in self.directories:
            try:
                directory.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                gone = False
        return gone


class ControlGroups:
    """What of control groups this process can use; found once."""

    def __init__(self, mounts: str | None = None, own: str | None = None) -> None:
        """`mounts` and `own` are the texts of /proc/self/mountinfo and /proc/self/cgroup."""
        mounts = Path("/proc/self/mountinfo").read_text() if mounts is None else mounts
        own = Path("/proc/self/cgroup").read_text() if own is None else own
        self.hierarchies = tuple(_find(mounts, own))
        self.controllers = frozenset(name for h in self.hierarchies for name in h.controllers)

    def create(self, name: str, limits: Limits) -> Groups:
        """Make a box's groups with its limits set. Raises OSError."""
        groups = self.of(name)
        for hierarchy, directory in groups.directories:
            directory.mkdir(exist_ok=True)
            for file, value in _settings(hierarchy, limits):
                with contextlib.suppress(FileNotFoundError):
                    (directory / file).write_text(value)
        return groups

    def of(self, name: str) -> Groups:
        """The groups of a box by its name, whether they exist or not."""
        return Groups(name, tuple((h, h.parent / name) for h in self.hierarchies))

    def remove_stale(self) -> None:
        """Remove empty groups that are a minute old: of boxes whose directory is gone as well."""
        for hierarchy in self.hierarchies:
            for directory in _directories(hierarchy.parent):
                with contextlib.suppress(OSError):  # what lives in one keeps it
                    if time.time() - directory.stat().st_mtime > 60:
                        directory.rmdir()

    def names(self) -> set[str]:
        """Names of all boxes that have a group."""
        return {entry.name for h in self.hierarchies for entry in _directories(h.parent)}


def _settings(hierarchy: Hierarchy, limits: Limits) -> list[tuple[str, str]]:
    """(file, value) for each limit; memory before swap, as the kernel wants it."""
    memory = limits.memory_mb << 20
    cpus = limits.cpus or max(1, (os.cpu_count() or 2) - 1)
    processes = str(limits.processes + 16)
    if hierarchy.version == 2:
        every = [
            ("memory", "memory.max", str(memory)),
            ("memory", "memory.swap.max", "0"),
            ("memory", "memory.oom.group", "0"),
            ("pids", "pids.max", processes),
            ("cpu", "cpu.weight", "100"),
            ("cpu", "cpu.max", f"{int(cpus * 100_000)} 100000"),
        ]
    else:
        every = [
            ("memory", "memory.limit_in_bytes", str(memory)),
            ("memory", "memory.memsw.limit_in_bytes", str(memory)),
            ("pids", "pids.max", processes),
            ("cpu", "cpu.shares", "1024"),
            ("cpu", "cpu.cfs_quota_us", str(int(cpus * 100_000))),
        ]
    return [(file, value) for controller, file, value in every if controller in hierarchy.controllers]


def _find(mounts: str, own: str) -> list[Hierarchy]:
    paths: dict[str, str] = {}
    for line in own.splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            paths[name] = path
    found = []
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        root, mount = left.split()[3:5]
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup2":
            found += _version_2(Path(mount), root, paths.get("", "/"))
        elif kind == "cgroup":
            controllers = frozenset(options.split(",")) & {"memory", "pids", "cpu"}
            if controllers:
                found += _version_1(Path(mount), root, paths.get(min(controllers), "/"), controllers)
    return found


def _inside(mount: Path, root: str, path: str) -> Path:
    """Where our own group is seen under a mount whose root may be a part of the tree."""
    relative = os.path.relpath(path, root)
    own = mount if relative.startswith("..") else mount / relative
    return own if own.is_dir() else mount


def _version_1(mount: Path, root: str, path: str, names: frozenset[str]) -> list[Hierarchy]:
    parent = _inside(mount, root, path) / _GROUP
    try:
        parent.mkdir(exist_ok=True)
    except OSError:
        return []
    return [Hierarchy(1, parent, names)] if os.access(parent, os.W_OK) else []


def _version_2(mount: Path, root: str, path: str) -> list[Hierarchy]:
    own = _inside(mount, root, path)
    if os.access(mount / "cgroup.subtree_control", os.W_OK) and not (mount / "cgroup.type").exists():
        own = mount  # the machine's own root may hold processes and hand on controllers at once
    if own.name == "vibe-service":  # a process before us has already made room
        own = own.parent
    wanted = frozenset(_read(own / "cgroup.controllers").split()) & {"memory", "pids", "cpu"}
    if "memory" not in wanted or not os.access(own / "cgroup.subtree_control", os.W_OK):
        return []
    try:
        parent = own / _GROUP
        parent.mkdir(exist_ok=True)
        if not wanted <= set(_read(own / "cgroup.subtree_control").split()):
            if (own / "cgroup.type").exists():
                _make_room(own)
            (own / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(wanted)))
        (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(wanted)))
    except OSError:
        return []
    return [Hierarchy(2, parent, wanted)]


def _make_room(own: Path) -> None:
    """A group that hands on controllers may hold no process itself: move them to a leaf."""
    leaf = own / "vibe-service"
    leaf.mkdir(exist_ok=True)
    for pid in _read(own / "cgroup.procs").split():
        with contextlib.suppress(OSError):
            (leaf / "cgroup.procs").write_text(pid)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _directories(path: Path) -> list[Path]:
    try:
        return [entry for entry in path.iterdir() if entry.is_dir()]
    except OSError:
        return []
