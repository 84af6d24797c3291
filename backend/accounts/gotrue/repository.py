"""Queries of signing in with tokens: the named functions of migrations/0008_auth.sql, and a person's own row."""

from typing import Any
from uuid import UUID

from backend.kit.db import Database, Row, Session


async def create_person(
    database: Database,
    user_id: UUID,
    account_id: UUID,
    email: str,
    name: str,
    password_hash: str | None,
    metadata: dict[str, Any],
    *,
    confirmed: bool,
) -> bool:
    """A person with an account of his own; false when the address is taken, or nobody is there yet."""
    sql = "SELECT create_person($1, $2, $3, $4, $5, $6, $7::jsonb) AS made"
    row = await database.lookup(sql, user_id, account_id, email, name, password_hash, confirmed, metadata)
    return bool(row and row["made"])


async def person(database: Database, user_id: UUID) -> Row | None:
    """A person, whichever account he works in."""
    return await database.lookup("SELECT * FROM auth_person($1)", user_id)


async def open_session(
    session: Session,
    session_id: UUID,
    user_id: UUID,
    token_hash: bytes,
    refresh_hash: bytes,
    user_agent: str,
    network: str,
    method: str,
    days: int,
) -> Row:
    """A session with its first refresh token; the person that signs in."""
    opened = "SELECT open_token_session($1, $2, $3, $4, $5, $6, $7, $8, $9)"
    values = (session_id, session.account_id, user_id, token_hash, refresh_hash, user_agent, network, method, days)
    await session.execute(opened, *values)
    row = await session.row("SELECT * FROM auth_person($1)", user_id)
    assert row is not None
    return row


async def use_refresh_token(database: Database, token_hash: bytes, next_hash: bytes, days: int) -> Row:
    """Use a refresh token, in one round trip: `outcome` (used, reused, unknown, expired), its session, the person, and `steps` to the chain's end."""
    sql = """
        SELECT t.outcome, t.session_id, t.account_id, t.method, t.opened_at, t.steps, t.user_id AS whose, p.*
        FROM use_refresh_token($1, $2, $3) t LEFT JOIN LATERAL auth_person(t.user_id) p ON true"""
    row = await database.lookup(sql, token_hash, next_hash, days)
    assert row is not None
    return row


async def update_person(session: Session, user_id: UUID, name: str | None, metadata: dict[str, Any]) -> None:
    """Merge into what a client keeps with a person (null takes a key away), and perhaps rename him."""
    sql = """
        UPDATE users SET metadata = jsonb_strip_nulls(metadata || $2::jsonb), name = coalesce($3, name), updated_at = now()
        WHERE user_id = $1"""
    await session.execute(sql, user_id, metadata, name)


async def put_recovery(database: Database, user_id: UUID, token_hash: bytes, minutes: int) -> None:
    """The one token that a person can recover with now."""
    await database.lookup("SELECT put_recovery($1, $2, $3)", user_id, token_hash, minutes)


async def use_recovery(database: Database, token_hash: bytes, email: str | None) -> Row | None:
    """Whose recovery it is, once; None when it is nobody's any more."""
    return await database.lookup("SELECT * FROM use_recovery($1, $2)", token_hash, email)
