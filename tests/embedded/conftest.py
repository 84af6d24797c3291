"""A data directory for each test, and servers on it that are ended with the test."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from backend.embedded.directory import POSTGRES_UID, VALKEY_UID, DataDirectory, dropped_uid
from backend.embedded.postgres import Postgres
from backend.embedded.programs import postgres_binaries, valkey_binary
from backend.embedded.valkey import Valkey


@pytest.fixture
def directory() -> Iterator[DataDirectory]:
    """A new data directory, at a place that root's servers may pass through."""
    made = DataDirectory(Path(tempfile.mkdtemp(prefix="vibe-embedded-")))
    made.create()
    yield made
    for process in belonging(made.path):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            process.wait(5)
    shutil.rmtree(made.path)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """A new database that was never used, to copy: making one takes longer than most tests."""
    made = DataDirectory(Path(tempfile.mkdtemp(prefix="vibe-cluster-")))
    made.create()
    uid = dropped_uid(POSTGRES_UID)
    room, log = made.room("postgres", uid), made.room("logs") / "postgres.log"
    postgres = Postgres(room, postgres_binaries(made.programs()), log, uid=uid, say=lambda _: None)

    async def make() -> None:
        await postgres.start()
        await postgres.stop()

    asyncio.run(make())
    yield made.path
    shutil.rmtree(made.path)


@pytest.fixture
async def fresh(directory: DataDirectory, cluster: Path) -> None:
    """The directory has a database already."""
    for room in ("postgres", "programs"):
        if (cluster / room).exists():
            subprocess.run(["cp", "-a", cluster / room, directory.path / room], check=True)


@pytest.fixture
async def postgres(directory: DataDirectory) -> AsyncIterator[Callable[[], Postgres]]:
    """Makes a launcher for the directory's Postgres; every one made is stopped at the end."""
    made: list[Postgres] = []

    def make() -> Postgres:
        uid = dropped_uid(POSTGRES_UID)
        room, log = directory.room("postgres", uid), directory.room("logs") / "postgres.log"
        made.append(Postgres(room, postgres_binaries(directory.programs()), log, uid=uid, say=lambda _: None))
        return made[-1]

    yield make
    for one in made:
        await one.stop()


@pytest.fixture
async def valkey(directory: DataDirectory) -> AsyncIterator[Callable[[], Valkey]]:
    """Makes a launcher for the directory's Valkey; every one made is stopped at the end."""
    made: list[Valkey] = []

    def make() -> Valkey:
        uid = dropped_uid(VALKEY_UID)
        room, log = directory.room("valkey", uid), directory.room("logs") / "valkey.log"
        made.append(Valkey(room, valkey_binary(directory.programs()), log, uid=uid, say=lambda _: None))
        return made[-1]

    yield make
    for one in made:
        await one.stop()


def belonging(path: Path) -> list[psutil.Process]:
    """Server processes whose working directory or command line lies in `path`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = " ".join(process.cmdline())
            if str(path) in words or process.cwd().startswith(str(path)):
                found.append(process)
    return [process for process in found if process.pid != os.getpid()]
