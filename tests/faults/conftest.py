"""Servers and processes of these tests' own, because they are stopped and killed."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from backend.cli.place import app_password
from backend.embedded.directory import DataDirectory
from backend.kit.db import Database
from backend.kit.migrations import migrate
from backend.sandbox.volumes import unmount
from tests.client import Person, owner
from tests.conftest import SECRET_KEY, empty_tables
from tests.faults.crew import Crew, Servers
from tests.product import belonging, end


@pytest.fixture(scope="session")
def own_servers(cluster: Path) -> Iterator[Servers]:
    """A Postgres and a Valkey that a test may stop, if it starts them again."""
    directory = DataDirectory(Path(tempfile.mkdtemp(prefix="vibe-faults-")))
    directory.create()
    servers = Servers(directory, cluster)
    asyncio.run(servers.start())
    asyncio.run(migrate(servers.postgres.url, app_password(SECRET_KEY)))
    yield servers
    asyncio.run(servers.stop())
    end(belonging(directory.path))
    for files in directory.path.glob("workspaces/*/files"):
        unmount(files)  # what a killed worker's sandbox left mounted
    shutil.rmtree(directory.path)


@pytest.fixture(scope="session")
def hands(own_servers: Servers) -> Iterator[Crew]:
    """The processes, which one test leaves to the next."""
    made = Crew(own_servers)
    yield made
    made.end()


@pytest.fixture
async def crew(hands: Crew, own_servers: Servers) -> AsyncIterator[Crew]:
    """The product's processes over empty tables; a test says how many it needs."""
    connection = await asyncpg.connect(own_servers.postgres.url)
    await empty_tables(connection)
    await connection.close()
    async with asyncpg.create_pool(own_servers.postgres.url, min_size=1, max_size=4) as admin:
        with redis.Redis.from_url(own_servers.valkey.url) as client:
            client.flushdb()
        hands.admin = admin
        yield hands
        hands.wake()
        admin.terminate()


@pytest.fixture
async def person(crew: Crew) -> AsyncIterator[Person]:
    """The owner."""
    database = await Database.connect(crew.environment["DATABASE_URL"])
    yield await owner(database)
    await database.close()
