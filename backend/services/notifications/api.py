"""HTTP of notifications."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from backend.accounts.auth import Reader, Transaction
from backend.kit.http import refusals
from backend.kit.pages import Page
from backend.services.notifications import service
from backend.services.notifications.schemas import MarkedRead, Notification, UnreadCount

router = APIRouter(prefix="/api/notifications", tags=["notifications"], responses=refusals(401))


@router.get("")
async def list_notifications(
    session: Transaction, who: Reader, unread: bool = False, cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 50
) -> Page[Notification]:
    """What happened in the last ninety days, newest first; with `unread` what the caller has neither read nor seen resolved."""
    return await service.page(session, who.user_id, unread, cursor, limit)


@router.get("/count")
async def count_notifications(session: Transaction, who: Reader) -> UnreadCount:
    """How many are unread, counted up to a hundred."""
    return await service.count(session, who.user_id)


@router.post("/read-all")
async def read_all_notifications(session: Transaction, who: Reader) -> MarkedRead:
    """Mark everything there is as read, for the caller."""
    return MarkedRead(marked=await service.mark_all_read(session, who.user_id))


@router.post("/{notification_id}/read", status_code=204, responses=refusals(404))
async def read_notification(notification_id: UUID, session: Transaction, who: Reader) -> Response:
    """Mark one as read, for the caller."""
    await service.mark_read(session, who.user_id, notification_id)
    return Response(status_code=204)
