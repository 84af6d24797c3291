"""Notifications: each is the account's, and read by each person for himself."""

from uuid import UUID

from backend.accounts.service import decode_moment
from backend.kit.db import Session
from backend.kit.pages import Page, encode_cursor
from backend.kit.problems import NotFound
from backend.services.notifications import repository
from backend.services.notifications.schemas import Notification, UnreadCount

_COUNTED = 100


async def page(session: Session, user_id: UUID, unread: bool, cursor: str | None, limit: int) -> Page[Notification]:
    """Notifications of the last ninety days, newest first; with `unread` those that are neither read nor resolved."""
    rows = await repository.notifications(session, user_id, unread, decode_moment(cursor), limit + 1)
    items = [Notification.model_validate(dict(row)) for row in rows[:limit]]
    more = encode_cursor(items[-1].created_at.isoformat(), items[-1].notification_id) if len(rows) > limit else None
    return Page(items=items, next_cursor=more)


async def count(session: Session, user_id: UUID) -> UnreadCount:
    """How many are left to read, counted up to a hundred."""
    found = await repository.count_unread(session, user_id, _COUNTED + 1)
    return UnreadCount(unread=min(found, _COUNTED), more=found > _COUNTED)


async def mark_read(session: Session, user_id: UUID, notification_id: UUID) -> None:
    """The person has read it. Once more changes nothing."""
    if not await repository.exists(session, notification_id):
        raise NotFound("There is no such notification.")
    await repository.mark_read(session, user_id, notification_id)


async def mark_all_read(session: Session, user_id: UUID) -> int:
    """The person has read what there is now; how many were new to him."""
    return await repository.mark_all_read(session, user_id)
