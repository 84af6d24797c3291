"""The database behind a pooler of transactions: nothing that outlives a transaction is used."""

from pathlib import Path
from urllib.parse import urlsplit

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


async def test_behind_a_pooler_migrations_are_one_transaction(servers: Servers, tmp_path: Path) -> None:
    connection = await asyncpg.connect(servers.admin_dsn)
    await connection.execute("CREATE DATABASE pooled_migrations")
    dsn = servers.admin_dsn.replace(urlsplit(servers.admin_dsn).path, "/pooled_migrations")
    password = urlsplit(servers.dsn).password
    assert password is not None
    (tmp_path / "1.sql").write_text("CREATE TABLE one (n int)")
    (tmp_path / "2.sql").write_text("CREATE TABLE two (n int); SELECT 1/0")
    try:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(f"{dsn}?pgbouncer=true", password, tmp_path)
        (tmp_path / "2.sql").write_text("CREATE TABLE two (n int)")
        assert await migrate(f"{dsn}?pgbouncer=true", password, tmp_path) == ["1.sql", "2.sql"]
        assert await migrate(dsn, password, tmp_path) == []
    finally:
        await connection.execute("DROP DATABASE pooled_migrations")
        await connection.close()
