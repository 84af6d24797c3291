"""Queries of accounts. Those that come before an account is known are the named functions of migrations/0002_across.sql."""

from datetime import datetime
from typing import Any
from uuid import UUID

from backend.kit.db import Database, Row, Session

# Before an account is known ---------------------------------------------------------------------------------------------


async def has_owner(database: Database) -> bool:
    """Whether anybody is there yet."""
    row = await database.lookup("SELECT installation_has_owner() AS found")
    return bool(row and row["found"])


async def setup_token_hash(database: Database) -> str | None:
    """SHA-256 (hex) of the setup token that is valid now."""
    row = await database.lookup("SELECT installation_get('setup_token') AS value")
    return row["value"]["sha256"] if row and row["value"] else None


async def put_setup_token_hash(database: Database, digest: str) -> None:
    """Make this the one valid setup token."""
    await database.lookup("SELECT installation_put('setup_token', $1::jsonb)", {"sha256": digest})


async def create_owner(
    database: Database, user_id: UUID, account_id: UUID, email: str, name: str, password_hash: str
) -> bool:
    """The first person and account; false when somebody was first."""
    row = await database.lookup(
        "SELECT create_owner($1, $2, $3, $4, $5) AS made", user_id, account_id, email, name, password_hash
    )
    return bool(row and row["made"])


async def login(database: Database, email: str) -> Row | None:
    """What a login is checked against."""
    return await database.lookup("SELECT * FROM login_by_email($1)", email)


async def first_owner(database: Database) -> Row | None:
    """The oldest owner and his account."""
    return await database.lookup("SELECT * FROM first_owner()")


async def by_session(database: Database, token_hash: bytes) -> Row | None:
    """Whose browser session this is."""
    return await database.lookup("SELECT * FROM session_by_hash($1)", token_hash)


async def by_key(database: Database, key_hash: bytes) -> Row | None:
    """Whose API key this is."""
    return await database.lookup("SELECT * FROM key_by_hash($1)", key_hash)


# People and sessions ----------------------------------------------------------------------------------------------------


async def me(session: Session, user_id: UUID) -> Row | None:
    """A person with his account and role."""
    sql = """
        SELECT u.user_id, u.email, u.name, u.password_hash, a.account_id, a.name AS account_name, m.role
        FROM memberships m JOIN users u USING (user_id) JOIN accounts a USING (account_id) WHERE u.user_id = $1"""
    return await session.row(sql, user_id)


async def set_name(session: Session, user_id: UUID, name: str) -> None:
    """Rename a person."""
    await session.execute("UPDATE users SET name = $2, updated_at = now() WHERE user_id = $1", user_id, name)


async def set_password(session: Session, user_id: UUID, password_hash: str) -> None:
    """Give a person another password."""
    await session.execute(
        "UPDATE users SET password_hash = $2, updated_at = now() WHERE user_id = $1", user_id, password_hash
    )


async def add_session(
    session: Session, session_id: UUID, user_id: UUID, token_hash: bytes, user_agent: str, days: int
) -> None:
    """A browser signs in; sessions of the person that are over are forgotten."""
    await session.execute("DELETE FROM sessions WHERE user_id = $1 AND expires_at < now()", user_id)
    sql = """
        INSERT INTO sessions (session_id, account_id, user_id, token_hash, user_agent, expires_at)
        VALUES ($1, $2, $3, $4, $5, now() + make_interval(days => $6))"""
    await session.execute(sql, session_id, session.account_id, user_id, token_hash, user_agent, days)


async def use_session(session: Session, session_id: UUID, days: int) -> None:
    """A session was used: it lasts `days` from now."""
    sql = "UPDATE sessions SET last_used_at = now(), expires_at = now() + make_interval(days => $2) WHERE session_id = $1"
    await session.execute(sql, session_id, days)


async def end_session(session: Session, session_id: UUID) -> None:
    """A browser signs out."""
    await session.execute("DELETE FROM sessions WHERE session_id = $1", session_id)


async def end_other_sessions(session: Session, user_id: UUID, but: UUID | None) -> int:
    """End a person's sessions, all but one."""
    return await session.execute(
        "DELETE FROM sessions WHERE user_id = $1 AND session_id IS DISTINCT FROM $2", user_id, but
    )


# API keys ---------------------------------------------------------------------------------------------------------------

_KEY = "key_id, user_id, name, prefix, created_at, last_used_at"


async def add_key(
    session: Session, key_id: UUID, user_id: UUID, name: str, prefix: str, key_hash: bytes
) -> Row:
    """A new key."""
    sql = f"""
        INSERT INTO api_keys (key_id, account_id, user_id, name, prefix, key_hash)
        VALUES ($1, $2, $3, $4, $5, $6) RETURNING {_KEY}"""
    row = await session.row(sql, key_id, session.account_id, user_id, name, prefix, key_hash)
    assert row is not None
    return row


async def keys(
    session: Session, user_id: UUID | None, before: tuple[datetime, UUID] | None, limit: int
) -> list[Row]:
    """Keys that are valid, newest first: a person's, or everybody's in the account."""
    sql = f"""
        SELECT {_KEY} FROM api_keys WHERE revoked_at IS NULL AND ($1::uuid IS NULL OR user_id = $1)
        AND ($2::timestamptz IS NULL OR (created_at, key_id) < ($2, $3)) ORDER BY created_at DESC, key_id DESC LIMIT $4"""
    at, id = before or (None, None)
    return await session.fetch(sql, user_id, at, id, limit)


async def use_key(session: Session, key_id: UUID) -> None:
    """A key was used."""
    await session.execute("UPDATE api_keys SET last_used_at = now() WHERE key_id = $1", key_id)


async def revoke_key(session: Session, key_id: UUID, user_id: UUID | None) -> str | None:
    """Make a key worthless; its name, or None when there is no such key (of this person)."""
    sql = """
        UPDATE api_keys SET revoked_at = now()
        WHERE key_id = $1 AND revoked_at IS NULL AND ($2::uuid IS NULL OR user_id = $2) RETURNING name"""
    name: str | None = await session.value(sql, key_id, user_id)
    return name


# Asking twice -----------------------------------------------------------------------------------------------------------


async def claim(session: Session, key: str, request: bytes, object_id: UUID) -> Row:
    """Who came first under an Idempotency-Key: `object_id` and `request` of what was made. Waits for one that is in the middle of it."""
    await session.execute("DELETE FROM idempotency_keys WHERE created_at < now() - interval '1 day'")
    sql = """
        INSERT INTO idempotency_keys (account_id, key, request, object_id) VALUES ($1, $2, $3, $4)
        ON CONFLICT DO NOTHING RETURNING object_id, request"""
    row = await session.row(sql, session.account_id, key, request, object_id)
    if row is None:
        row = await session.row("SELECT object_id, request FROM idempotency_keys WHERE key = $1", key)
    assert row is not None
    return row


# Audit ------------------------------------------------------------------------------------------------------------------


async def audit(
    session: Session, entry_id: UUID, user_id: UUID | None, act: str, object: str, detail: dict[str, Any]
) -> None:
    """One line of the audit log, which can only grow."""
    sql = "INSERT INTO audit_log (entry_id, account_id, user_id, act, object, detail) VALUES ($1, $2, $3, $4, $5, $6::jsonb)"
    await session.execute(sql, entry_id, session.account_id, user_id, act, object, detail)
