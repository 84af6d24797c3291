"""What webhooks say and hear over HTTP."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Event = Literal["run.finished", "approval.requested", "approval.decided"]
DeliveryStatus = Literal["pending", "delivered", "failed"]
TEST_EVENT = "webhook.test"


def _each_once(events: list[Event]) -> list[Event]:
    return list(dict.fromkeys(events))


Events = Annotated[list[Event], Field(min_length=1, max_length=10), AfterValidator(_each_once)]
Url = Annotated[str, Field(min_length=1, max_length=2000)]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class NewWebhook(BaseModel):
    """Where events go, and which."""

    url: Url
    events: Events
    description: str = Field("", max_length=300)


class WebhookUpdate(BaseModel):
    """What is changed of a webhook; what is not given stays. `active` turns one on again that was turned off."""

    url: Url | None = None
    events: Events | None = None
    description: str | None = Field(None, max_length=300)
    active: bool | None = None


class Webhook(_View):
    """An address that events are sent to. `disabled_reason` says why the product turned it off."""

    webhook_id: UUID
    url: str
    events: list[Event]
    description: str
    active: bool
    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_reason: str
    created_at: datetime
    updated_at: datetime


class CreatedWebhook(Webhook):
    """A webhook with its signing secret, which is shown now and never again."""

    secret: str


class Delivery(_View):
    """One event on its way to one webhook. `delivery_id` is the `webhook-id` that the receiver sees, the same at every attempt."""

    delivery_id: UUID
    webhook_id: UUID
    event: str
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None
    answer_status: int | None = Field(description="Status of the last answer; null when none came.")
    answer: str = Field(description="The first 500 characters of the last answer.")
    error: str = Field(description="Why the last attempt failed.")
    took_ms: int | None
    tried_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime


class DeliveryDetail(Delivery):
    """A delivery with what is sent."""

    body: str
