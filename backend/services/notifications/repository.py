"""SQL of notifications. Their rows are made and resolved by the triggers of migrations/0010_hooks.sql."""

from datetime import datetime
from uuid import UUID

from backend.kit.db import Row, Session

# Whoever deleted a thread has nothing left to know of it.
_FROM = "FROM notifications n LEFT JOIN threads t ON t.thread_id = n.thread_id"
_SHOWN = "t.deleted_at IS NULL"
_READ = "EXISTS (SELECT 1 FROM notification_reads r WHERE r.notification_id = n.notification_id AND r.user_id = $1)"
_UNREAD = f"n.resolved_at IS NULL AND {_SHOWN} AND NOT {_READ}"


async def notifications(session: Session, user_id: UUID, unread: bool, before: tuple[datetime, UUID] | None, limit: int) -> list[Row]:
    """Notifications, newest first; only those the person has left to read, or all."""
    at, id = before or (None, None)
    sql = f"""
        SELECT n.notification_id, n.kind, n.title, n.detail, n.thread_id, t.number AS thread_number, t.title AS thread_title, n.run_id, n.approval_id,
               n.webhook_id, {_READ} AS read, n.created_at, n.resolved_at
        {_FROM} WHERE {_UNREAD if unread else _SHOWN}
        AND ($2::timestamptz IS NULL OR (n.created_at, n.notification_id) < ($2, $3::uuid)) ORDER BY n.created_at DESC, n.notification_id DESC LIMIT $4"""
    return await session.fetch(sql, user_id, at, id, limit)


async def count_unread(session: Session, user_id: UUID, most: int) -> int:
    """How many a person has left to read, counted up to `most`."""
    found: int = await session.value(f"SELECT count(*) FROM (SELECT 1 {_FROM} WHERE {_UNREAD} LIMIT $2) unread", user_id, most)
    return found


async def exists(session: Session, notification_id: UUID) -> bool:
    """Whether the account has this notification."""
    return bool(await session.value("SELECT 1 FROM notifications WHERE notification_id = $1", notification_id))


async def mark_read(session: Session, user_id: UUID, notification_id: UUID) -> None:
    """A person has read one."""
    sql = "INSERT INTO notification_reads (notification_id, user_id, account_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
    await session.execute(sql, notification_id, user_id, session.account_id)


async def mark_all_read(session: Session, user_id: UUID) -> int:
    """A person has read all there are; how many were new to him."""
    sql = f"""INSERT INTO notification_reads (notification_id, user_id, account_id)
        SELECT n.notification_id, $1, n.account_id {_FROM} WHERE {_UNREAD} ON CONFLICT DO NOTHING"""
    return await session.execute(sql, user_id)
