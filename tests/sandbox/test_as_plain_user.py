"""Started as root the suite also runs as a plain user: the same tests, in a process that has given up its rights."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLAIN_UID = 64_123
NEEDED = ("pytest", "pytest-asyncio", "aiohttp")


@pytest.fixture
def place() -> Iterator[Path]:
    """A copy of what the tests need, where anybody may read it: the checkout may lie under a closed home."""
    place = Path(tempfile.mkdtemp(prefix="vibe-plain-", dir="/tmp"))
    place.chmod(0o755)
    for source in ("backend/sandbox", "backend/kit", "tests/sandbox", "tests/kit"):
        shutil.copytree(ROOT / source, place / source, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", place / "pyproject.toml")
    for package in ("backend", "tests"):
        (place / package / "__init__.py").touch()
    for name in sorted(_with_requirements(NEEDED)):
        for file in metadata.distribution(name).files or []:
            if file.parts[0] != ".." and file.suffix != ".pyc":
                target = place / "packages" / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)
    yield place
    shutil.rmtree(place)


def _with_requirements(names: tuple[str, ...]) -> set[str]:
    """Installed distributions that these need, themselves included."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        try:
            requires = metadata.distribution(name).requires or []
        except metadata.PackageNotFoundError:
            continue
        if name not in found:
            found.add(name)
            waiting += [_name(line) for line in requires if "extra ==" not in line]
    return found


def _name(requirement: str) -> str:
    for end, letter in enumerate(requirement):
        if not (letter.isalnum() or letter in "-_."):
            return requirement[:end]
    return requirement


def interpreter() -> str:
    """A Python of our version that anybody may run."""
    ours = os.path.realpath(sys.executable)
    open_to_all = all(parent.stat().st_mode & 0o001 for parent in Path(ours).parents)
    return ours if open_to_all else f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.skipif(os.geteuid() != 0, reason="the suite runs as a plain user already")
def test_everything_holds_for_a_plain_user_too(place: Path) -> None:
    files = [
        f"tests/sandbox/test_{name}.py"
        for name in ("contract", "escape", "limits", "life", "proxy", "service")
    ]
    # The driver's choice of limits is the machine's: without root both kinds are those of the watchdog.
    command = [interpreter(), "-m", "pytest", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, "-k", "not hard", *files],
        cwd=place,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{place}:{place}/packages",
            "HOME": "/nonexistent",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        user=PLAIN_UID,
        group=PLAIN_UID,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert " passed" in result.stdout and "failed" not in result.stdout
