"""SQL of webhooks and their deliveries. Rows of deliveries are made by the triggers of migrations/0010_hooks.sql."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from backend.kit.db import Database, Row, Session

_HOOK = "webhook_id, url, events, description, active, failing_since, disabled_at, disabled_reason, created_at, updated_at"
_DELIVERY = """delivery_id, webhook_id, event, status, attempts, CASE WHEN status = 'pending' THEN due_at END AS next_attempt_at, answer_status, answer, error,
    took_ms, tried_at, delivered_at, created_at"""
_WAITS_AGAIN = "status = 'pending', attempts = 0, due_at = clock_timestamp(), lease_until = NULL"

# Webhooks ---------------------------------------------------------------------------------------------------------------


async def count(session: Session) -> int:
    """How many webhooks the account has; whoever asks is alone in adding one until his transaction ends."""
    await session.value("SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text, 10))", session.account_id)
    found: int = await session.value("SELECT count(*) FROM webhooks")
    return found


async def add(session: Session, webhook_id: UUID, url: str, events: Sequence[str], description: str, sealed: bytes, by: UUID) -> None:
    """A new webhook."""
    sql = "INSERT INTO webhooks (webhook_id, account_id, url, events, description, sealed, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7)"
    await session.execute(sql, webhook_id, session.account_id, url, list(events), description, sealed, by)


async def hook(session: Session, webhook_id: UUID) -> Row | None:
    """One webhook, its sealed secret with it."""
    return await session.row(f"SELECT {_HOOK}, sealed FROM webhooks WHERE webhook_id = $1", webhook_id)


async def hooks(session: Session, before: tuple[datetime, UUID] | None, limit: int) -> list[Row]:
    """Webhooks, newest first."""
    at, id = before or (None, None)
    sql = f"""SELECT {_HOOK} FROM webhooks WHERE ($1::timestamptz IS NULL OR (created_at, webhook_id) < ($1, $2::uuid))
        ORDER BY created_at DESC, webhook_id DESC LIMIT $3"""
    return await session.fetch(sql, at, id, limit)


async def change(
    session: Session, webhook_id: UUID, url: str | None, events: Sequence[str] | None, description: str | None, active: bool | None
) -> bool:
    """Change what is given. One that is turned on begins with a clean slate."""
    sql = """
        UPDATE webhooks SET url = coalesce($2, url), events = coalesce($3, events), description = coalesce($4, description),
            active = coalesce($5, active), updated_at = now(), failing_since = CASE WHEN $5 THEN NULL ELSE failing_since END,
            disabled_at = CASE WHEN $5 THEN NULL ELSE disabled_at END, disabled_reason = CASE WHEN $5 THEN '' ELSE disabled_reason END
        WHERE webhook_id = $1"""
    return await session.execute(sql, webhook_id, url, events, description, active) == 1


async def set_secret(session: Session, webhook_id: UUID, sealed: bytes, overlap: timedelta) -> bool:
    """Another secret; the one before it signs too for a while."""
    sql = """UPDATE webhooks SET sealed_before = sealed, before_until = clock_timestamp() + $3::interval, sealed = $2, updated_at = now()
        WHERE webhook_id = $1"""
    return await session.execute(sql, webhook_id, sealed, overlap) == 1


async def delete(session: Session, webhook_id: UUID) -> bool:
    """Take a webhook away, and its deliveries."""
    return await session.execute("DELETE FROM webhooks WHERE webhook_id = $1", webhook_id) == 1


# Deliveries -------------------------------------------------------------------------------------------------------------


async def add_delivery(session: Session, delivery_id: UUID, webhook_id: UUID, event: str, data: dict[str, Any]) -> None:
    """An event for one webhook alone."""
    sql = """INSERT INTO webhook_deliveries (delivery_id, account_id, webhook_id, event, body)
        VALUES ($1, $2, $3, $4, event_body($4, $5::jsonb)) ON CONFLICT DO NOTHING"""
    await session.execute(sql, delivery_id, session.account_id, webhook_id, event, data)


async def delivery(session: Session, webhook_id: UUID, delivery_id: UUID) -> Row | None:
    """One delivery with its body."""
    return await session.row(f"SELECT {_DELIVERY}, body FROM webhook_deliveries WHERE webhook_id = $1 AND delivery_id = $2", webhook_id, delivery_id)


async def deliveries(session: Session, webhook_id: UUID, status: str | None, before: tuple[datetime, UUID] | None, limit: int) -> list[Row]:
    """A webhook's deliveries, newest first."""
    at, id = before or (None, None)
    sql = f"""SELECT {_DELIVERY} FROM webhook_deliveries WHERE webhook_id = $1 AND ($2::text IS NULL OR status = $2)
        AND ($3::timestamptz IS NULL OR (created_at, delivery_id) < ($3, $4::uuid)) ORDER BY created_at DESC, delivery_id DESC LIMIT $5"""
    return await session.fetch(sql, webhook_id, status, at, id, limit)


async def replay(session: Session, delivery_id: UUID) -> bool:
    """Send a delivery again from the start; False while an attempt is under way."""
    sql = f"UPDATE webhook_deliveries SET {_WAITS_AGAIN} WHERE delivery_id = $1 AND (status <> 'pending' OR coalesce(lease_until < clock_timestamp(), true))"
    return await session.execute(sql, delivery_id) == 1


# The courier's ----------------------------------------------------------------------------------------------------------


async def claim(database: Database, busy: Sequence[UUID], limit: int, lease: timedelta) -> list[Row]:
    """Deliveries of any account that are due, leased to the caller; none of the webhooks he is `busy` with."""
    return await database.fetch("SELECT * FROM claim_deliveries($1, $2, $3)", list(busy), limit, lease)


async def lock(session: Session, webhook_id: UUID) -> None:
    """Wait for whoever changes this webhook: it comes before its deliveries, for who turns it off."""
    await session.value("SELECT 1 FROM webhooks WHERE webhook_id = $1 FOR NO KEY UPDATE", webhook_id)


async def settle(
    session: Session, delivery_id: UUID, claim: int, *, status: str, wait: timedelta, answer_status: int | None, answer: str, error: str, took_ms: int
) -> bool:
    """What an attempt came to; False when the lease was lost to another one."""
    sql = """
        UPDATE webhook_deliveries SET status = $3, due_at = clock_timestamp() + $4::interval, lease_until = NULL, answer_status = $5, answer = $6, error = $7,
            took_ms = $8, delivered_at = CASE WHEN $3 = 'delivered' THEN clock_timestamp() ELSE delivered_at END
        WHERE delivery_id = $1 AND claim = $2 AND status = 'pending'"""
    return await session.execute(sql, delivery_id, claim, status, wait, answer_status, answer, error, took_ms) == 1


async def mark_well(session: Session, webhook_id: UUID) -> None:
    """A webhook works (again)."""
    await session.execute("UPDATE webhooks SET failing_since = NULL WHERE webhook_id = $1 AND failing_since IS NOT NULL", webhook_id)


async def mark_failing(session: Session, webhook_id: UUID) -> None:
    """A webhook has failed; since when, is kept."""
    await session.execute("UPDATE webhooks SET failing_since = clock_timestamp() WHERE webhook_id = $1 AND failing_since IS NULL", webhook_id)


async def disable(session: Session, webhook_id: UUID, reason: str, failing_for: timedelta) -> bool:
    """Turn a webhook off that has failed so long."""
    sql = """UPDATE webhooks SET active = false, disabled_at = clock_timestamp(), disabled_reason = $2
        WHERE webhook_id = $1 AND active AND failing_since <= clock_timestamp() - $3::interval"""
    return await session.execute(sql, webhook_id, reason, failing_for) == 1


async def forget_old(database: Database) -> None:
    """Delete deliveries and notifications whose time is over, of all accounts."""
    await database.lookup("SELECT forget_old_news()")
