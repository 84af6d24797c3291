"""What all tests stand on: a real Postgres, a real Valkey, the real app on a real port, a real worker process.

Each pytest process (each xdist worker is one) starts servers of its own when the first test asks for them; with
`DATABASE_URL` or `REDIS_URL` in the environment it uses those, in a database of its own.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import redis
from pydantic import SecretStr

from backend.cli.place import app_password
from backend.embedded import process
from backend.embedded.directory import POSTGRES_UID, VALKEY_UID, DataDirectory, dropped_uid
from backend.embedded.postgres import Postgres
from backend.embedded.programs import postgres_binaries, valkey_binary
from backend.embedded.valkey import Valkey
from backend.kit.db import Database, app_dsn
from backend.kit.migrations import migrate
from backend.kit.settings import Settings
from backend.sandbox.volumes import unmount
from tests.product import ROOT, Spawn, Started, belonging, end

SECRET_KEY = "a secret key for tests only"

# Nothing of the machine's own configuration reaches a test, but the two addresses that the suite may run against.
_GIVEN = {name: os.environ.get(name) for name in ("DATABASE_URL", "REDIS_URL")}
for _name in Settings.model_fields:
    os.environ.pop(_name.upper(), None)


@dataclass(frozen=True)
class Servers:
    """Where the servers of this pytest process are."""

    data_dir: Path
    admin_dsn: str
    dsn: str  # as the role that row-level security binds
    redis_dsn: str


@pytest.fixture(scope="session")
def data_dir() -> Iterator[Path]:
    """A data directory for this pytest process; root's servers may pass through it."""
    path = Path(tempfile.mkdtemp(prefix="vibe-test-"))
    directory = DataDirectory(path)
    directory.create()
    for name in ("service", "logs"):
        directory.room(name)
    yield path
    for files in path.glob("workspaces/*/files"):
        unmount(files)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(data_dir: Path) -> Iterator[Servers]:
    """Postgres with every migration applied, and Valkey."""
    directory, logs = DataDirectory(data_dir), data_dir / "logs"
    postgres_uid, valkey_uid = dropped_uid(POSTGRES_UID), dropped_uid(VALKEY_UID)
    with contextlib.ExitStack() as stack:
        admin_dsn, redis_dsn = _GIVEN["DATABASE_URL"], _GIVEN["REDIS_URL"]
        if admin_dsn is None:
            postgres = Postgres(
                directory.room("postgres", postgres_uid),
                postgres_binaries(directory.programs()),
                logs / "postgres.log",
                uid=postgres_uid,
                options={"fsync": "off"},  # a power cut ends the tests anyway
            )
            stack.callback(lambda: asyncio.run(postgres.stop()))
            admin_dsn = asyncio.run(postgres.start())
        else:
            admin_dsn = stack.enter_context(_own_database(admin_dsn))
        if redis_dsn is None:
            valkey = Valkey(
                directory.room("valkey", valkey_uid), valkey_binary(directory.programs()), logs / "valkey.log", uid=valkey_uid
            )
            stack.callback(lambda: asyncio.run(valkey.stop()))
            redis_dsn = asyncio.run(valkey.start())
        password = app_password(SECRET_KEY)
        asyncio.run(migrate(admin_dsn, password))
        yield Servers(data_dir, admin_dsn, app_dsn(admin_dsn, password), redis_dsn)


@contextlib.contextmanager
def _own_database(dsn: str) -> Iterator[str]:
    """A database of this process's own on a server that was given."""
    name = f"vibe_test_{os.getpid()}"

    async def execute(sql: str) -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(execute(f"CREATE DATABASE {name}"))
    try:
        yield urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
    finally:
        asyncio.run(execute(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def settings(servers: Servers) -> Settings:
    """Settings of the product as the tests run it."""
    return Settings(
        _env_file=None,
        vibe_data_dir=servers.data_dir,
        vibe_secret_key=SecretStr(SECRET_KEY),
        database_url=SecretStr(servers.dsn),
        redis_url=SecretStr(servers.redis_dsn),
    )


@pytest.fixture
async def clean(servers: Servers) -> None:
    """Empty tables and an empty Valkey."""
    connection = await asyncpg.connect(servers.admin_dsn)
    await empty_tables(connection)
    await connection.close()
    with redis.Redis.from_url(servers.redis_dsn) as client:
        client.flushdb()


async def empty_tables(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Delete every row but what says which migrations were applied. The connection is of no other use afterwards."""
    tables = await connection.fetch(
        "SELECT format('DELETE FROM %I', tablename) AS sql FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migrations'"
    )
    # Foreign keys and triggers rest, so the order does not matter.
    await connection.execute("SET session_replication_role = replica; " + "; ".join(row["sql"] for row in tables))


@pytest.fixture
async def database(servers: Servers, clean: None) -> AsyncIterator[Database]:
    """The database, empty, as the role that the product runs as."""
    opened = await Database.connect(servers.dsn)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def environment(settings: Settings) -> dict[str, str]:
    """Environment of a process of the product."""
    assert settings.database_url and settings.redis_url and settings.vibe_secret_key
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "VIBE_DATA_DIR": str(settings.vibe_data_dir),
        "VIBE_SECRET_KEY": settings.vibe_secret_key.get_secret_value(),
        "VIBE_LEASE_SECONDS": "2",
        "VIBE_RATE_LIMIT_PER_MINUTE": "0",
    }


@pytest.fixture
def spawn(environment: dict[str, str], data_dir: Path, clean: None) -> Iterator[Spawn]:
    """Starts more api and worker processes, with an environment of their own; they end with the test."""
    made = Spawn(environment, data_dir / "logs")
    yield made
    made.end()


@pytest.fixture(scope="session")
def _api(environment: dict[str, str], data_dir: Path) -> Iterator[Started]:
    port = process.free_port()
    api = Started(["api", "--port", str(port)], environment, data_dir / "logs" / "api.log", f"http://127.0.0.1:{port}")
    api.start()
    yield api
    api.stop()


@pytest.fixture(scope="session")
def _worker(environment: dict[str, str], data_dir: Path) -> Iterator[Started]:
    worker = Started(["worker"], environment, data_dir / "logs" / "worker.log")
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture
def server(_api: Started, clean: None) -> Started:
    """The real app on a real port, over empty tables; the process lives as long as the session. Do not kill this one."""
    return _api


@pytest.fixture
def worker(_worker: Started, clean: None) -> Started:
    """A real worker process, over empty tables; it lives as long as the session. Do not kill this one."""
    return _worker


# Starting the product itself: a data directory of the test's own -----------------------------------------------------


@pytest.fixture
def directory() -> Iterator[DataDirectory]:
    """A new data directory, at a place that root's servers may pass through."""
    made = DataDirectory(Path(tempfile.mkdtemp(prefix="vibe-embedded-")))
    made.create()
    yield made
    end(belonging(made.path))
    for files in made.path.glob("workspaces/*/files"):
        unmount(files)  # what a killed worker's sandbox left mounted
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
def fresh(directory: DataDirectory, cluster: Path) -> None:
    """The directory has a database already."""
    for room in ("postgres", "programs"):
        if (cluster / room).exists():
            subprocess.run(["cp", "-a", cluster / room, directory.path / room], check=True)
