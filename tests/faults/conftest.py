"""Each test has its own servers and processes, because it may stop or kill them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from backend.cli.place import app_password
from backend.embedded import process
from backend.embedded.directory import DataDirectory
from backend.kit.db import Database, app_dsn
from backend.kit.migrations import migrate
from tests.client import Person, owner
from tests.conftest import SECRET_KEY
from tests.faults.crew import Crew, Servers
from tests.product import ROOT


@pytest.fixture
async def own_servers(directory: DataDirectory, cluster: Path) -> AsyncIterator[Servers]:
    """A Postgres and a Valkey of this test's own."""
    servers = Servers(directory, cluster)
    await servers.start()
    yield servers
    await servers.stop()


@pytest.fixture
async def crew(own_servers: Servers, environment_of: Callable[[Servers], dict[str, str]]) -> AsyncIterator[Crew]:
    """The product's processes over these servers; none is started yet."""
    await migrate(own_servers.postgres.url, app_password(SECRET_KEY))
    admin = await asyncpg.create_pool(own_servers.postgres.url, min_size=1, max_size=4)
    made = Crew(environment_of(own_servers), own_servers.directory.room("logs"), admin)
    yield made
    made.end()
    for log in sorted(made.logs.glob("*-*.log")):
        print(f"--- {log.name}\n{process.tail(log, 15)}")
    admin.terminate()


@pytest.fixture
def environment_of() -> Callable[[Servers], dict[str, str]]:
    """Environment of a process of the product over given servers."""

    def environment(servers: Servers) -> dict[str, str]:
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": app_dsn(servers.postgres.url, app_password(SECRET_KEY)),
            "REDIS_URL": servers.valkey.url,
            "VIBE_DATA_DIR": str(servers.directory.path),
            "VIBE_SECRET_KEY": SECRET_KEY,
            "VIBE_LEASE_SECONDS": "2",
        }

    return environment


@pytest.fixture
async def person(crew: Crew) -> AsyncIterator[Person]:
    """The owner."""
    database = await Database.connect(crew.environment["DATABASE_URL"])
    yield await owner(database)
    await database.close()
