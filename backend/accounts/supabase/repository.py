"""Queries of signing in through Supabase: the named functions of migrations/0008_auth.sql."""

from typing import Any
from uuid import UUID

from backend.kit.db import Database, Row

PROVIDER = "supabase"


async def by_identity(database: Database, subject: UUID, account_id: UUID | None) -> Row | None:
    """Who a person of Supabase's is here, in his first account or in `account_id`; `role` is None for no member of it."""
    return await database.lookup("SELECT * FROM person_by_identity($1, $2, $3)", PROVIDER, str(subject), account_id)


async def link(database: Database, subject: UUID, email: str) -> str:
    """Link a person of Supabase's to the one with this address: linked, unconfirmed, taken or nobody."""
    row = await database.lookup("SELECT link_identity($1, $2, $3) AS outcome", PROVIDER, str(subject), email)
    assert row is not None
    return str(row["outcome"])


async def create_person(
    database: Database, user_id: UUID, account_id: UUID, subject: UUID, email: str, name: str, metadata: dict[str, Any], *, confirmed: bool
) -> bool:
    """A person of Supabase's with an account of his own; false when the address is taken, or nobody is there yet."""
    sql = "SELECT create_linked_person($1, $2, $3, $4, $5, $6, $7, $8::jsonb) AS made"
    values = (user_id, account_id, PROVIDER, str(subject), email, name, confirmed, metadata)
    row = await database.lookup(sql, *values)
    return bool(row and row["made"])


async def is_invited(database: Database, email: str) -> bool:
    """Whether an account asks whoever has this address in."""
    row = await database.lookup("SELECT is_invited($1) AS invited", email)
    return bool(row and row["invited"])


async def keep_session(database: Database, token_hash: bytes, sealed: bytes, seconds: int) -> None:
    """Keep the refresh token behind a browser's session; it wants to be used in so many seconds."""
    await database.lookup("SELECT keep_supabase_session($1, $2, $3)", token_hash, sealed, seconds)


async def claim_refresh(database: Database, token_hash: bytes) -> bytes | None:
    """The refresh token behind a browser's session, when it is due and nobody else is at it."""
    row = await database.lookup("SELECT * FROM claim_supabase_refresh($1)", token_hash)
    sealed: bytes | None = row["sealed"] if row else None
    return sealed
