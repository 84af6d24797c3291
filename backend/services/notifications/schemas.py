"""What notifications say over HTTP."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

NotificationKind = Literal["approval.waiting", "run.failed", "run.limit", "webhook.disabled"]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class Notification(_View):
    """Something a person should know, and the ids of what to open. `resolved_at` says that nothing is left to do about it."""

    notification_id: UUID
    kind: NotificationKind
    title: str = Field(description="The action that waits, the problem, or the webhook's address.")
    detail: str
    thread_id: UUID | None
    thread_number: int | None
    thread_title: str | None
    run_id: UUID | None
    approval_id: UUID | None
    webhook_id: UUID | None
    read: bool = Field(description="Whether the caller has read it.")
    created_at: datetime
    resolved_at: datetime | None


class UnreadCount(_View):
    """How many notifications the caller has neither read nor seen resolved; `more` when there are more than are counted."""

    unread: int
    more: bool


class MarkedRead(_View):
    """How many notifications became read."""

    marked: int
