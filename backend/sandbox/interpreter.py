"""The Python that runs the supervisor: the system's, else our own base installation, copied when it is closed to boxes."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from backend.sandbox.protocol import SandboxUnavailable

SYSTEM = Path("/usr/bin/python3")
MOUNTED = "/opt/python"
_UNNEEDED = shutil.ignore_patterns(
    "site-packages", "__pycache__", "test", "tests", "idlelib", "tkinter", "config-*", "ensurepip", "*.a"
)


@dataclass(frozen=True)
class Interpreter:
    """Its path inside a box and outside, and the directory to mount at MOUNTED (None: it lies under /usr)."""

    inside: str
    outside: str
    home: Path | None = None


def find(system: Path, copies: Path, as_root: bool) -> Interpreter:
    """An interpreter that a box's user may run; copies go below `copies`. Raises SandboxUnavailable."""
    if system.exists() and Path(os.path.realpath(system)).is_relative_to("/usr"):
        return Interpreter(str(system), str(system))
    home = Path(sys.base_prefix)
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not (home / "bin" / name).exists():
        raise SandboxUnavailable(
            "The sandbox's supervisor needs a Python that its own user may run.",
            "Install the system's Python as /usr/bin/python3, version 3.9 or newer.",
        )
    if as_root and not all(parent.stat().st_mode & 0o001 for parent in (home, *home.parents)):
        home = _copied(home, name, copies / f".{name}-{sys.version_info.micro}")
    return Interpreter(f"{MOUNTED}/bin/{name}", str(home / "bin" / name), home)


def _copied(home: Path, name: str, target: Path) -> Path:
    """The interpreter and its standard library, made once; others may read it."""
    if not target.exists():
        scratch = target.with_name(f"{target.name}.{os.getpid()}")
        (scratch / "bin").mkdir(parents=True)
        shutil.copy2(home / "bin" / name, scratch / "bin" / name)
        shutil.copytree(home / "lib" / name, scratch / "lib" / name, ignore=_UNNEEDED)
        for library in (home / "lib").glob("libpython*.so*"):
            shutil.copy2(library, scratch / "lib" / library.name)
        for path in (scratch, *scratch.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        scratch.rename(target)
    return target
