"""Queries of accounts. Those that come before an account is known, or go across accounts, are the named functions of
migrations/0002_across.sql and 0007_members.sql."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

from backend.accounts.schemas import Role, Scope
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
    session: Session, session_id: UUID, user_id: UUID, token_hash: bytes, user_agent: str, network: str, days: int
) -> None:
    """A browser signs in; sessions of the person that are over are forgotten."""
    await session.execute("DELETE FROM sessions WHERE user_id = $1 AND expires_at < now()", user_id)
    sql = """
        INSERT INTO sessions (session_id, account_id, user_id, token_hash, user_agent, network, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(days => $7))"""
    await session.execute(sql, session_id, session.account_id, user_id, token_hash, user_agent, network, days)


async def use_session(session: Session, session_id: UUID, days: int) -> None:
    """A session was used: it lasts `days` from now."""
    sql = "UPDATE sessions SET last_used_at = now(), expires_at = now() + make_interval(days => $2) WHERE session_id = $1"
    await session.execute(sql, session_id, days)


async def end_session(session: Session, session_id: UUID) -> None:
    """A browser signs out."""
    await session.execute("DELETE FROM sessions WHERE session_id = $1", session_id)


async def sessions(session: Session, user_id: UUID) -> list[Row]:
    """A person's sessions, last used first, whichever account they speak for."""
    return await session.fetch("SELECT * FROM sessions_of($1)", user_id)


async def end_sessions(session: Session, user_id: UUID, *, only: UUID | None = None, but: UUID | None = None) -> int:
    """End a person's sessions: one, or all but one, in whichever account; how many ended."""
    ended: int = await session.value("SELECT end_sessions($1, $2, $3)", user_id, only, but)
    return ended


async def switch_session(session: Session, user_id: UUID, session_id: UUID, account_id: UUID) -> bool:
    """Let a session speak for another account of its person; false when it is not his."""
    return await session.value("SELECT switch_session($1, $2, $3)", user_id, session_id, account_id) is not None


# API keys ---------------------------------------------------------------------------------------------------------------

_KEY = "key_id, user_id, name, prefix, scopes, created_at, last_used_at, expires_at"


async def add_key(
    session: Session, key_id: UUID, user_id: UUID, name: str, prefix: str, key_hash: bytes, scopes: list[Scope], expires_at: datetime | None
) -> Row:
    """A new key."""
    sql = f"""
        INSERT INTO api_keys (key_id, account_id, user_id, name, prefix, key_hash, scopes, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {_KEY}"""
    row = await session.row(sql, key_id, session.account_id, user_id, name, prefix, key_hash, scopes, expires_at)
    assert row is not None
    return row


async def key(session: Session, key_id: UUID) -> Row | None:
    """A key, also one that was revoked."""
    return await session.row(f"SELECT {_KEY} FROM api_keys WHERE key_id = $1", key_id)


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


# Accounts ---------------------------------------------------------------------------------------------------------------


async def sign_up(database: Database, user_id: UUID, account_id: UUID, email: str, name: str, password_hash: str) -> bool:
    """A person and an account of his own; false when somebody has this address."""
    row = await database.lookup("SELECT sign_up($1, $2, $3, $4, $5) AS made", user_id, account_id, email, name, password_hash)
    return bool(row and row["made"])


async def accounts_of(session: Session, user_id: UUID) -> list[Row]:
    """A person's accounts with his role in each, oldest membership first."""
    return await session.fetch("SELECT * FROM accounts_of($1)", user_id)


async def open_account(session: Session, user_id: UUID, account_id: UUID, name: str, bound: int) -> bool:
    """One more account for a person; false when he has `bound` already."""
    made: bool = await session.value("SELECT open_account($1, $2, $3, $4)", user_id, account_id, name, bound)
    return made


async def rename_account(session: Session, name: str) -> None:
    """Call the account something else."""
    await session.execute("UPDATE accounts SET name = $2, updated_at = now() WHERE account_id = $1", session.account_id, name)


async def delete_account(session: Session, by: UUID) -> list[Row]:
    """Remove every row of the account; `table_name, deleted, remaining` of each table, nothing when `by` is no owner."""
    return await session.fetch("SELECT * FROM delete_account($1)", by)


async def tenant_columns(session: Session) -> list[Row]:
    """`table, column, type` of all tables whose rows belong to accounts, as far as the product may read them."""
    sql = """
        SELECT c.table_name AS table, c.column_name AS column, c.udt_name AS type
        FROM information_schema.columns c JOIN tenant_tables() AS t ON t = c.table_name
        WHERE c.table_schema = 'public' AND has_table_privilege(format('%I', t), 'SELECT') ORDER BY c.table_name, c.ordinal_position"""
    return await session.fetch(sql)


def table_rows(session: Session, table: str, columns: list[str]) -> AsyncIterator[list[Row]]:
    """All of the account's rows of a table in batches, each as JSON text; names are the catalogue's."""
    names = ", ".join(f'"{column}"' for column in columns)
    return session.stream(f'SELECT row_to_json(t)::text AS row FROM (SELECT {names} FROM "{table}" WHERE account_id = $1) t', session.account_id)


# Members ----------------------------------------------------------------------------------------------------------------


async def members(session: Session) -> list[Row]:
    """Everybody in the account, longest first."""
    sql = """
        SELECT u.user_id, u.email, u.name, m.role, m.created_at AS joined_at FROM memberships m JOIN users u USING (user_id)
        ORDER BY m.created_at, u.user_id"""
    return await session.fetch(sql)


async def set_role(session: Session, by: UUID, user_id: UUID, role: Role) -> str:
    """Give a member another role: done, forbidden, nobody or last_owner."""
    outcome: str = await session.value("SELECT set_role($1, $2, $3)", by, user_id, role)
    return outcome


async def remove_member(session: Session, by: UUID, user_id: UUID) -> str:
    """A member goes: done, forbidden, nobody or last_owner."""
    outcome: str = await session.value("SELECT remove_member($1, $2)", by, user_id)
    return outcome


# Invitations ------------------------------------------------------------------------------------------------------------

_INVITATION = "invitation_id, email, role, created_at, expires_at"


async def has_member(session: Session, email: str) -> bool:
    """Whether somebody in the account has this address."""
    found: bool = await session.value("SELECT EXISTS (SELECT 1 FROM users WHERE lower(email) = lower($1))", email)
    return found


async def add_invitation(
    session: Session, invitation_id: UUID, email: str, role: Role, token_hash: bytes, by: UUID, days: int
) -> Row:
    """A new invitation, in the place of one for the same address that was not used, also when two ask at the same moment."""
    sql = f"""
        INSERT INTO invitations (invitation_id, account_id, email, role, token_hash, invited_by, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(days => $7))
        ON CONFLICT (account_id, lower(email)) WHERE accepted_at IS NULL DO UPDATE SET
        invitation_id = excluded.invitation_id, email = excluded.email, role = excluded.role, token_hash = excluded.token_hash,
        invited_by = excluded.invited_by, created_at = now(), expires_at = excluded.expires_at
        RETURNING {_INVITATION}"""
    row = await session.row(sql, invitation_id, session.account_id, email, role, token_hash, by, days)
    assert row is not None
    return row


async def invitation(session: Session, invitation_id: UUID) -> Row | None:
    """An invitation that was not used."""
    return await session.row(f"SELECT {_INVITATION} FROM invitations WHERE invitation_id = $1 AND accepted_at IS NULL", invitation_id)


async def invitations(session: Session, before: tuple[datetime, UUID] | None, limit: int) -> list[Row]:
    """Invitations that were not used, newest first."""
    sql = f"""
        SELECT {_INVITATION} FROM invitations WHERE accepted_at IS NULL
        AND ($1::timestamptz IS NULL OR (created_at, invitation_id) < ($1, $2)) ORDER BY created_at DESC, invitation_id DESC LIMIT $3"""
    at, id = before or (None, None)
    return await session.fetch(sql, at, id, limit)


async def delete_invitation(session: Session, invitation_id: UUID) -> str | None:
    """Take an invitation back; its address, or None when there is none that was not used."""
    sql = "DELETE FROM invitations WHERE invitation_id = $1 AND accepted_at IS NULL RETURNING email"
    email: str | None = await session.value(sql, invitation_id)
    return email


async def invitation_by_hash(database: Database, token_hash: bytes) -> Row | None:
    """What whoever holds the link may know."""
    return await database.lookup("SELECT * FROM invitation_by_hash($1)", token_hash)


async def accept_invitation(
    database: Database, token_hash: bytes, user_id: UUID, name: str | None, password_hash: str | None
) -> Row:
    """Use an invitation: `outcome` (done, void, known, another, member) and the account."""
    row = await database.lookup("SELECT * FROM accept_invitation($1, $2, $3, $4)", token_hash, user_id, name, password_hash)
    assert row is not None
    return row


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


async def audit_log(
    session: Session, act: str | None, before: tuple[datetime, UUID] | None, limit: int
) -> list[Row]:
    """What was written down, newest first; `act` is one act, or a family of them when it ends with a dot."""
    sql = """
        SELECT l.entry_id, l.created_at, l.act, l.object, l.detail, l.user_id, coalesce(u.name, '') AS user_name
        FROM audit_log l LEFT JOIN users u USING (user_id)
        WHERE ($1::text IS NULL OR l.act = $1 OR (right($1, 1) = '.' AND starts_with(l.act, $1)))
        AND ($2::timestamptz IS NULL OR (l.created_at, l.entry_id) < ($2, $3)) ORDER BY l.created_at DESC, l.entry_id DESC LIMIT $4"""
    at, id = before or (None, None)
    return await session.fetch(sql, act, at, id, limit)


# Tokens -----------------------------------------------------------------------------------------------------------------


async def keep_fact(database: Database, name: str, value: dict[str, Any]) -> dict[str, Any]:
    """A fact of the installation that is made once: this value, or the one that was there first."""
    row = await database.lookup("SELECT installation_keep($1, $2::jsonb) AS value", name, value)
    assert row is not None
    kept: dict[str, Any] = row["value"]
    return kept


async def token_session(
    database: Database, session_id: UUID, user_id: UUID, account_id: UUID | None
) -> Row | None:
    """The session of an access token while it lasts, in its account or in `account_id`; `role` is None for no member."""
    return await database.lookup("SELECT * FROM token_session($1, $2, $3)", session_id, user_id, account_id)
