"""Migrations: numbered SQL files, applied once each, in order, by one starter at a time; then those in `always/`, at every start."""

import contextlib
import hashlib
from pathlib import Path

import asyncpg

from backend.kit.db import APP_ROLE, LOST, DatabaseUnavailable, connect, driver_address

FOLDER = Path(__file__).parents[2] / "migrations"
_LOCK = 0x76_69_62_65  # "vibe"


class ChangedMigration(RuntimeError):
    """A migration that was already applied is not the file that is here now"""


async def migrate(dsn: str, app_password: str, folder: Path = FOLDER) -> list[str]:
    """Apply what is missing under an advisory lock and give the app's role its password. Returns the names applied.

    Behind a pooler of transactions all of it is one transaction, for a session's lock would not hold there.
    """
    try:
        connection = await connect(dsn)
    except LOST as error:
        raise DatabaseUnavailable(str(error)) from error
    pooled = driver_address(dsn)[1]
    try:
        async with connection.transaction() if pooled else contextlib.nullcontext():
            await connection.execute(f"SELECT pg_advisory_{'xact_' if pooled else ''}lock({_LOCK})")
            await _ensure_app_role(connection, app_password)
            return await _apply(connection, folder)
    finally:
        await connection.close()


async def pending(dsn: str, folder: Path = FOLDER) -> list[str]:
    """Names of migrations that are not applied yet."""
    connection = await connect(dsn)
    try:
        if await connection.fetchval("SELECT to_regclass('migrations')") is None:
            return [path.name for path in sorted(folder.glob("*.sql"))]
        done = {row["name"] for row in await connection.fetch("SELECT name FROM migrations")}
        return [path.name for path in sorted(folder.glob("*.sql")) if path.name not in done]
    finally:
        await connection.close()


async def _apply(connection: "asyncpg.Connection", folder: Path) -> list[str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    done = {row["name"]: row["sha256"] for row in await connection.fetch("SELECT name, sha256 FROM migrations")}
    applied = []
    for path in sorted(folder.glob("*.sql")):
        sql = path.read_text()
        digest = hashlib.sha256(sql.encode()).hexdigest()
        if path.name in done:
            if done[path.name] != digest:
                raise ChangedMigration(f"{path.name} was changed after it had been applied; add a new migration instead.")
            continue
        async with connection.transaction():
            await connection.execute(sql)
            await connection.execute("INSERT INTO migrations (name, sha256) VALUES ($1, $2)", path.name, digest)
        applied.append(path.name)
    for path in sorted(folder.glob("always/*.sql")):
        await connection.execute(path.read_text())
    return applied


async def _ensure_app_role(connection: "asyncpg.Connection", password: str) -> None:
    """Make the role the product runs as (no superuser, owns nothing) and set its password."""
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", APP_ROLE):
        await connection.execute(f"CREATE ROLE {APP_ROLE} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE")
    quoted = await connection.fetchval("SELECT quote_literal($1::text)", password)
    await connection.execute(f"ALTER ROLE {APP_ROLE} PASSWORD {quoted}")
