"""People, the product, and a second place: a database of its own for workers that must be the only ones."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import redis

from backend.accounts import service as accounts
from backend.accounts.schemas import NewApiKey, Role
from backend.cli.place import app_password
from backend.kit.db import Database, app_dsn
from backend.kit.migrations import migrate
from tests.client import Person, Product, owner
from tests.conftest import SECRET_KEY, Servers
from tests.people import add_person
from tests.product import Spawn, Started

Sql = Callable[..., Awaitable[list[dict[str, Any]]]]
_EMPTY = "SELECT format('DELETE FROM %I', tablename) AS sql FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migrations'"


async def member(database: Database, admin_dsn: str, email: str, *, role: Role = "owner", of: Person | None = None) -> Person:
    """One more person with a key: with an account of his own, or in that of somebody."""
    made = await add_person(admin_dsn, email, role=role, account_id=of.account_id if of else None)
    async with database.transaction(made.account_id) as session:
        key = await accounts.create_key(session, made.user_id, NewApiKey(name="tests"))
    return Person(made.account_id, made.user_id, key.key)


@asynccontextmanager
async def _asking(dsn: str) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(dsn)

    async def ask(sql: str, *values: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in await connection.fetch(sql, *values)]

    yield ask
    await connection.close()


@pytest.fixture
async def ada(database: Database, server: Started, worker: Started) -> AsyncIterator[Product]:
    """The product as its first owner sees it."""
    person = await owner(database)
    async with person.at(server.url) as product:
        yield product


@pytest.fixture
async def sql(servers: Servers, clean: None) -> AsyncIterator[Sql]:
    """Ask the database as the role that sees everything."""
    async with _asking(servers.admin_dsn) as ask:
        yield ask


# A second place ---------------------------------------------------------------------------------------------------------


@dataclass
class Apart:
    """A database of its own with an api process; workers are started by who needs them, and nobody else takes its runs."""

    servers: Servers
    environment: dict[str, str]
    api: Started
    workers: list[Started] = field(default_factory=list)

    def worker(self, **environment: str) -> Started:
        """A worker with these settings."""
        started = Started(["worker"], self.environment | environment, self.api.log.with_name(f"apart-{os.getpid()}-{len(self.workers)}.log"))
        started.start()
        self.workers.append(started)
        return started

    def empty(self) -> None:
        """Forget every row and every key."""

        async def delete() -> None:
            connection = await asyncpg.connect(self.servers.admin_dsn)
            rows = await connection.fetch(_EMPTY)
            await connection.execute("SET session_replication_role = replica; " + "; ".join(row["sql"] for row in rows))
            await connection.close()

        asyncio.run(delete())
        with redis.Redis.from_url(self.servers.redis_dsn) as client:
            client.flushdb()

    def end(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.kill()


@pytest.fixture(scope="session")
def _apart(servers: Servers, environment: dict[str, str], data_dir: Path) -> Iterator[Apart]:
    name = f"apart_{os.getpid()}_{time.monotonic_ns()}"  # each folder that uses the fixture has a place of its own

    async def make() -> str:
        connection = await asyncpg.connect(servers.admin_dsn)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        dsn = urlunsplit(urlsplit(servers.admin_dsn)._replace(path=f"/{name}"))
        await migrate(dsn, app_password(SECRET_KEY))
        return dsn

    admin_dsn = asyncio.run(make())
    dsn = app_dsn(admin_dsn, app_password(SECRET_KEY))
    redis_dsn = urlunsplit(urlsplit(servers.redis_dsn)._replace(path="/1"))
    own = Servers(servers.data_dir, admin_dsn, dsn, redis_dsn)
    spawn = Spawn(environment | {"DATABASE_URL": dsn, "REDIS_URL": redis_dsn}, data_dir / "logs")
    yield Apart(own, environment | {"DATABASE_URL": dsn, "REDIS_URL": redis_dsn}, spawn.api())
    spawn.end()


@pytest.fixture
def apart(_apart: Apart) -> Iterator[Apart]:
    """The second place, empty; its workers end with the test."""
    _apart.empty()
    yield _apart
    _apart.end()
    _apart.workers.clear()


@pytest.fixture
async def apart_database(apart: Apart) -> AsyncIterator[Database]:
    """The second place's database, as the role that the product runs as."""
    database = await Database.connect(apart.servers.dsn)
    yield database
    await database.close()


@pytest.fixture
async def apart_sql(apart: Apart) -> AsyncIterator[Sql]:
    """The second place's database, as the role that sees everything."""
    async with _asking(apart.servers.admin_dsn) as ask:
        yield ask


@pytest.fixture
async def grace(apart: Apart, apart_database: Database) -> AsyncIterator[Product]:
    """The second place as its owner sees it."""
    person = await owner(apart_database, "grace@example.org")
    async with person.at(apart.api.url) as product:
        yield product
