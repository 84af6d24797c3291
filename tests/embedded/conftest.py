"""Launchers of the embedded servers, on a data directory of the test's own."""

from collections.abc import AsyncIterator, Callable

import pytest

from backend.embedded.directory import POSTGRES_UID, VALKEY_UID, DataDirectory, dropped_uid
from backend.embedded.postgres import Postgres
from backend.embedded.programs import postgres_binaries, valkey_binary
from backend.embedded.valkey import Valkey


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
