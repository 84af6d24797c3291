"""What all tests stand on: a real Postgres, a real Valkey, the real app on a real port, a real worker process.

Each pytest process (each xdist worker is one) starts servers of its own when the first test asks for them; with
`DATABASE_URL` or `REDIS_URL` in the environment it uses those, in a database of its own.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
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

ROOT = Path(__file__).parents[1]
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


@dataclass
class Started:
    """A process of the product, started by a test."""

    argv: list[str]
    environment: dict[str, str]
    log: Path
    url: str = ""
    child: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it; an api process is waited for until it answers."""
        self.child = process.spawn(
            [sys.executable, "-m", "backend.cli", *self.argv], env=self.environment, log=self.log, cwd=ROOT
        )
        while self.url and not _answers(f"{self.url}/health/live"):
            if self.child.poll() is not None:
                raise RuntimeError(f"{self.argv} ended at once:\n{process.tail(self.log, 30)}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in order (SIGTERM), and by force after fifteen seconds."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """`kill -9`."""
        self._end(signal.SIGKILL)

    def _end(self, sent: signal.Signals) -> None:
        if self.child is None or self.child.poll() is not None:
            return
        self.child.send_signal(sent)
        try:
            self.child.wait(15)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="session")
def data_dir() -> Iterator[Path]:
    """A data directory for this pytest process; root's servers may pass through it."""
    path = Path(tempfile.mkdtemp(prefix="vibe-test-"))
    directory = DataDirectory(path)
    directory.create()
    for name in ("service", "logs"):
        directory.room(name)
    yield path
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
    tables = await connection.fetch(
        "SELECT format('DELETE FROM %I', tablename) AS sql FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migrations'"
    )
    # Foreign keys and triggers rest, so the order does not matter.
    await connection.execute("SET session_replication_role = replica; " + "; ".join(row["sql"] for row in tables))
    await connection.close()
    with redis.Redis.from_url(servers.redis_dsn) as client:
        client.flushdb()


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
    }


@pytest.fixture
def spawn(environment: dict[str, str], data_dir: Path, clean: None) -> Iterator["Spawn"]:
    """Starts more api and worker processes, with an environment of their own; they end with the test."""
    made = Spawn(environment, data_dir / "logs")
    yield made
    made.end()


class Spawn:
    """Starts processes of the product."""

    def __init__(self, environment: dict[str, str], logs: Path) -> None:
        self._environment, self._logs = environment, logs
        self._started: list[Started] = []

    def api(self, **environment: str) -> Started:
        """An api process on a free port, ready; `url` is its address."""
        port = process.free_port()
        return self._start(["api", "--port", str(port)], environment, f"http://127.0.0.1:{port}")

    def worker(self, **environment: str) -> Started:
        """A worker process."""
        return self._start(["worker"], environment, "")

    def end(self) -> None:
        """End all of them."""
        for one in self._started:
            one.kill()

    def _start(self, argv: list[str], environment: dict[str, str], url: str) -> Started:
        log = self._logs / f"{argv[0]}-{len(self._started)}.log"
        started = Started(argv, {**self._environment, **environment}, log, url)
        self._started.append(started)
        started.start()
        return started


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
