"""Boxes for the tests, on a directory that a box's own user may reach."""

import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from backend.sandbox.bubblewrap import Box, Bubblewrap
from backend.sandbox.protocol import Limits, SandboxSpec

SMALL = Limits(memory_mb=256, processes=64, disk_mb=64, inodes=2000, tmp_mb=32)


def new_spec(**changes: object) -> SandboxSpec:
    """A small box on a new workspace."""
    return SandboxSpec(**{"workspace": str(uuid.uuid4()), "limits": SMALL} | changes)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def root() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="vibe-sandbox-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["hard", "soft"])
def driver(request: pytest.FixtureRequest, root: Path) -> Bubblewrap:
    """The driver with the kernel's limits, and with those of its watchdog only."""
    hard = request.param == "hard"
    return Bubblewrap(root / request.param, loop_images=hard, control_groups=hard)


@pytest.fixture
async def box(driver: Bubblewrap) -> AsyncIterator[Box]:
    spec = new_spec()
    opened = await driver.open(spec)
    yield opened
    await opened.close()
    await driver.destroy_workspace(spec.workspace)
