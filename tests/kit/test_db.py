"""The database behind a pooler of transactions, where nothing that outlives a transaction is used, and before anybody has analyzed it."""

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from backend.kit.db import Database, app_dsn, driver_address
from backend.kit.migrations import migrate
from tests.conftest import Servers


@pytest.mark.parametrize(
    ("dsn", "plain", "pooled"),
    [
        ("postgresql://a:b@h:5432/db", "postgresql://a:b@h:5432/db", False),
        ("postgresql://a:b@h:6543/db", "postgresql://a:b@h:6543/db", True),
        ("postgresql://a:b@h/db?pgbouncer=true&sslmode=require", "postgresql://a:b@h/db?sslmode=require", True),
        ("postgresql://a:b@h/db?pgbouncer=false", "postgresql://a:b@h/db", False),
    ],
)
def test_a_pooler_is_known_by_its_port_or_its_flag(dsn: str, plain: str, pooled: bool) -> None:
    assert driver_address(dsn) == (plain, pooled)


def test_supabases_pooler_wants_the_project_behind_the_role() -> None:
    pooler = "aws-0-eu-central-1.pooler.supabase.com:6543/postgres"
    assert app_dsn(f"postgresql://postgres.abcdef:x@{pooler}", "p@ss") == f"postgresql://vibe_app.abcdef:p%40ss@{pooler}"
    assert app_dsn("postgresql://john.doe:x@db.example.org/v", "p") == "postgresql://vibe_app:p@db.example.org/v"


async def kept_statements(dsn: str) -> int:
    """How many prepared statements stay on the connection after a few queries."""
    database = await Database.connect(dsn, size=1)
    try:
        for _ in range(3):
            await database.lookup("SELECT $1::jsonb AS value", {"a": [1]})
            await database.fetch("SELECT * FROM run_states($1)", [])
            async with database.transaction(None) as session:
                await session.execute("SELECT count(*) FROM users WHERE email = $1", "x")
                await session.many("SELECT $1::int + $2::int", [(1, 2), (3, 4)])
        row = await database.lookup("SELECT count(*) AS n FROM pg_prepared_statements WHERE name <> ''")
        assert row is not None
        return int(row["n"])
    finally:
        await database.close()


async def test_behind_a_pooler_no_statement_stays_prepared(servers: Servers) -> None:
    assert await kept_statements(servers.dsn) > 0
    assert await kept_statements(f"{servers.dsn}?pgbouncer=true") == 0


@contextlib.asynccontextmanager
async def new_database(servers: Servers) -> AsyncIterator[tuple[str, str]]:
    """A database without a table: its address, and the password of the product's role."""
    connection = await asyncpg.connect(servers.admin_dsn)
    password = urlsplit(servers.dsn).password
    assert password is not None
    await connection.execute("CREATE DATABASE migrations_only")
    try:
        yield servers.admin_dsn.replace(urlsplit(servers.admin_dsn).path, "/migrations_only"), password
    finally:
        await connection.execute("DROP DATABASE migrations_only")
        await connection.close()


async def test_behind_a_pooler_migrations_are_one_transaction(servers: Servers, tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text("CREATE TABLE one (n int)")
    (tmp_path / "2.sql").write_text("CREATE TABLE two (n int); SELECT 1/0")
    async with new_database(servers) as (dsn, password):
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(f"{dsn}?pgbouncer=true", password, tmp_path)
        (tmp_path / "2.sql").write_text("CREATE TABLE two (n int)")
        assert await migrate(f"{dsn}?pgbouncer=true", password, tmp_path) == ["1.sql", "2.sql"]
        assert await migrate(dsn, password, tmp_path) == []


@pytest.mark.parametrize(
    "of_one_thread",
    [
        "SELECT 1 FROM messages WHERE thread_id = $1 AND seq IS NULL AND NOT discarded",
        "SELECT 1 FROM runs WHERE thread_id = $1 AND status IN ('queued', 'running', 'waiting_approval')",
        "SELECT message_id FROM messages WHERE thread_id = $1 AND branch = 0 AND seq IS NOT NULL ORDER BY seq DESC LIMIT 1",
        "UPDATE threads SET last_seq = last_seq + 1 WHERE thread_id = $1",
    ],
)
async def test_before_the_first_analysis_a_thread_is_not_sought_among_all_rows_of_its_account(servers: Servers, of_one_thread: str) -> None:
    async with new_database(servers) as (dsn, password):
        await migrate(dsn, password)
        database = await Database.connect(app_dsn(dsn, password), size=1)
        try:
            async with database.transaction(uuid4()) as session:
                if await session.value("SELECT current_setting('server_version_num')::int") < 180_000:
                    return  # it cannot be told, and finds out within a minute
                await session.execute("SET LOCAL plan_cache_mode = force_generic_plan")
                await session.execute(f"PREPARE sought (uuid) AS {of_one_thread}")
                plan = "\n".join(row["QUERY PLAN"] for row in await session.fetch(f"EXPLAIN EXECUTE sought ('{uuid4()}')"))
                await session.execute("DEALLOCATE sought")
        finally:
            await database.close()
    assert not re.search(r"Index Cond: .*account_id", plan), plan
    assert re.search(r"Index Cond: .*thread_id", plan), plan
