"""HTTP of webhooks and their deliveries."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response

from backend.accounts.auth import Editor, Manager, Transaction
from backend.kit.http import OnGround, refusals
from backend.kit.pages import Page
from backend.services.webhooks import service
from backend.services.webhooks.schemas import (
    CreatedWebhook,
    Delivery,
    DeliveryDetail,
    DeliveryStatus,
    NewWebhook,
    Webhook,
    WebhookUpdate,
)

router = APIRouter(prefix="/api/webhooks", tags=["webhooks"], responses=refusals(401, 403, 404))
IdempotencyKey = Annotated[str | None, Header(alias="idempotency-key", min_length=1, max_length=200)]
Limit = Annotated[int, Query(ge=1, le=100)]


@router.get("")
async def list_webhooks(session: Transaction, who: Editor, cursor: str | None = None, limit: Limit = 50) -> Page[Webhook]:
    """Webhooks, newest first."""
    return await service.page(session, cursor, limit)


@router.post("", status_code=201, responses=refusals(400, 409))
async def create_webhook(
    new: NewWebhook, session: Transaction, who: Manager, on: OnGround, idempotency_key: IdempotencyKey = None
) -> CreatedWebhook:
    """Send events to an address. The signing secret is shown this once."""
    return await service.create(session, on.sealer, on.settings.private_targets, new, who.user_id, idempotency_key)


@router.get("/{webhook_id}")
async def get_webhook(webhook_id: UUID, session: Transaction, who: Editor) -> Webhook:
    """One webhook."""
    return await service.read(session, webhook_id)


@router.patch("/{webhook_id}", responses=refusals(400))
async def update_webhook(webhook_id: UUID, update: WebhookUpdate, session: Transaction, who: Manager, on: OnGround) -> Webhook:
    """Change a webhook, or turn it on or off."""
    return await service.update(session, on.settings.private_targets, webhook_id, update, who.user_id)


@router.delete("/{webhook_id}", status_code=204)
async def delete_webhook(webhook_id: UUID, session: Transaction, who: Manager) -> Response:
    """Take a webhook away, and what is known of its deliveries."""
    await service.delete(session, webhook_id, who.user_id)
    return Response(status_code=204)


@router.post("/{webhook_id}/secret")
async def rotate_webhook_secret(webhook_id: UUID, session: Transaction, who: Manager, on: OnGround) -> CreatedWebhook:
    """A new signing secret, shown this once. For a day deliveries carry a signature of the old one too."""
    return await service.rotate(session, on.sealer, webhook_id, who.user_id)


@router.post("/{webhook_id}/test", status_code=202, responses=refusals(409))
async def test_webhook(webhook_id: UUID, session: Transaction, who: Manager, idempotency_key: IdempotencyKey = None) -> Delivery:
    """Send a `webhook.test` event, once; look at the delivery for what came of it."""
    return await service.test(session, webhook_id, idempotency_key)


@router.get("/{webhook_id}/deliveries")
async def list_deliveries(
    webhook_id: UUID,
    session: Transaction,
    who: Editor,
    status: DeliveryStatus | None = None,
    cursor: str | None = None,
    limit: Limit = 50,
) -> Page[Delivery]:
    """What was sent in the last thirty days, newest first, and what came of it."""
    return await service.deliveries(session, webhook_id, status, cursor, limit)


@router.get("/{webhook_id}/deliveries/{delivery_id}")
async def get_delivery(webhook_id: UUID, delivery_id: UUID, session: Transaction, who: Editor) -> DeliveryDetail:
    """One delivery with what is sent."""
    return await service.delivery(session, webhook_id, delivery_id)


@router.post("/{webhook_id}/deliveries/{delivery_id}/replay", status_code=202, responses=refusals(409))
async def replay_delivery(webhook_id: UUID, delivery_id: UUID, session: Transaction, who: Manager) -> Delivery:
    """Send it again under the same `webhook-id`, with all its attempts."""
    return await service.replay(session, webhook_id, delivery_id)
