"""Webhooks: made, changed, tested, taken away; what became of each delivery."""

import base64
import hashlib
import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson

from backend.accounts import service as accounts
from backend.kit.db import Database, Row, Session, enqueue
from backend.kit.egress import EgressRefused, check_url
from backend.kit.pages import Page, encode_cursor
from backend.kit.problems import Conflict, InvalidRequest, NotFound
from backend.kit.seal import Sealer
from backend.services.webhooks import repository
from backend.services.webhooks.schemas import (
    TEST_EVENT,
    CreatedWebhook,
    Delivery,
    DeliveryDetail,
    DeliveryStatus,
    NewWebhook,
    Webhook,
    WebhookUpdate,
)

WAKE = "webhooks.deliver"
SECRET_PREFIX = "whsec_"
_PURPOSE = "webhooks"
_MOST = 20
_OVERLAP = timedelta(days=1)
_SECRET_BYTES = 32


class TooManyWebhooks(Conflict):
    """The account has as many webhooks as it may have"""


class UnderWay(Conflict):
    """This is being delivered right now"""


async def create(
    session: Session, sealer: Sealer, private_targets: frozenset[str], new: NewWebhook, by: UUID, key: str | None = None
) -> CreatedWebhook:
    """A webhook with a new signing secret. Asking twice with one Idempotency-Key makes one, and gives the same answer.

    Raises `InvalidRequest` for an address that is not to be reached, `TooManyWebhooks`.
    """
    url = _checked(new.url, private_targets)
    webhook_id, is_new = await accounts.claim(session, key, _digest("webhook", new.model_dump()))
    if is_new:
        if await repository.count(session) >= _MOST:
            raise TooManyWebhooks(f"There are {_MOST}. Delete one first.")
        sealed = _new_secret(session, sealer, webhook_id)
        await repository.add(session, webhook_id, url, new.events, new.description, sealed, by)
        await accounts.audit(session, by, "webhook.created", str(webhook_id), {"url": url})
    return await _with_secret(session, sealer, webhook_id)


async def read(session: Session, webhook_id: UUID) -> Webhook:
    """One webhook."""
    return Webhook.model_validate(dict(await _hook(session, webhook_id)))


async def page(session: Session, cursor: str | None, limit: int) -> Page[Webhook]:
    """Webhooks, newest first."""
    rows = await repository.hooks(session, accounts.decode_moment(cursor), limit + 1)
    items = [Webhook.model_validate(dict(row)) for row in rows[:limit]]
    more = encode_cursor(items[-1].created_at.isoformat(), items[-1].webhook_id) if len(rows) > limit else None
    return Page(items=items, next_cursor=more)


async def update(session: Session, private_targets: frozenset[str], webhook_id: UUID, new: WebhookUpdate, by: UUID) -> Webhook:
    """Change what is given; what waited for a webhook that is turned off is not sent."""
    url = None if new.url is None else _checked(new.url, private_targets)
    if not await repository.change(session, webhook_id, url, new.events, new.description, new.active):
        raise NotFound("There is no such webhook.")
    await accounts.audit(session, by, "webhook.changed", str(webhook_id), new.model_dump(exclude_none=True))
    return await read(session, webhook_id)


async def rotate(session: Session, sealer: Sealer, webhook_id: UUID, by: UUID) -> CreatedWebhook:
    """A new signing secret. For a day each delivery is signed with the one before it too."""
    await _hook(session, webhook_id)
    await repository.set_secret(session, webhook_id, _new_secret(session, sealer, webhook_id), _OVERLAP)
    await accounts.audit(session, by, "webhook.secret_changed", str(webhook_id))
    return await _with_secret(session, sealer, webhook_id)


async def delete(session: Session, webhook_id: UUID, by: UUID) -> None:
    """Take a webhook away; nothing more is sent to it."""
    if not await repository.delete(session, webhook_id):
        raise NotFound("There is no such webhook.")
    await accounts.audit(session, by, "webhook.deleted", str(webhook_id))


# Deliveries -------------------------------------------------------------------------------------------------------------


async def test(session: Session, webhook_id: UUID, key: str | None = None) -> Delivery:
    """Send an event that says nothing, once; also to a webhook that is off."""
    await _hook(session, webhook_id)
    delivery_id, is_new = await accounts.claim(session, key, _digest("webhook test", str(webhook_id)))
    if is_new:
        await repository.add_delivery(session, delivery_id, webhook_id, TEST_EVENT, {"webhook_id": webhook_id})
        enqueue(session, WAKE)
    return await delivery(session, webhook_id, delivery_id)


async def delivery(session: Session, webhook_id: UUID, delivery_id: UUID) -> DeliveryDetail:
    """One delivery with what is sent."""
    row = await repository.delivery(session, webhook_id, delivery_id)
    if row is None:
        raise NotFound("There is no such delivery.")
    return DeliveryDetail.model_validate(dict(row))


async def deliveries(session: Session, webhook_id: UUID, status: DeliveryStatus | None, cursor: str | None, limit: int) -> Page[Delivery]:
    """A webhook's deliveries of the last thirty days, newest first."""
    await _hook(session, webhook_id)
    rows = await repository.deliveries(session, webhook_id, status, accounts.decode_moment(cursor), limit + 1)
    items = [Delivery.model_validate(dict(row)) for row in rows[:limit]]
    more = encode_cursor(items[-1].created_at.isoformat(), items[-1].delivery_id) if len(rows) > limit else None
    return Page(items=items, next_cursor=more)


async def replay(session: Session, webhook_id: UUID, delivery_id: UUID) -> Delivery:
    """Send a delivery again, under the same `webhook-id` and with all its attempts. Raises `UnderWay`."""
    await delivery(session, webhook_id, delivery_id)
    if not await repository.replay(session, delivery_id):
        raise UnderWay("Wait for its end, then send it again if it failed.")
    enqueue(session, WAKE)
    return await delivery(session, webhook_id, delivery_id)


async def forget_old(database: Database) -> None:
    """Delete deliveries older than thirty days and notifications older than ninety, of all accounts."""
    await repository.forget_old(database)


# Secrets ----------------------------------------------------------------------------------------------------------------


def open_secret(sealer: Sealer, account_id: UUID, webhook_id: UUID, sealed: bytes) -> str:
    """A signing secret, as the receiver has it. Raises `WrongSecretKey`."""
    return sealer.open(_PURPOSE, f"{account_id}:{webhook_id}", sealed)


def _new_secret(session: Session, sealer: Sealer, webhook_id: UUID) -> bytes:
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
    return sealer.seal(_PURPOSE, f"{session.account_id}:{webhook_id}", secret)


async def _with_secret(session: Session, sealer: Sealer, webhook_id: UUID) -> CreatedWebhook:
    row = await _hook(session, webhook_id)
    assert session.account_id is not None
    secret = open_secret(sealer, session.account_id, webhook_id, row["sealed"])
    return CreatedWebhook.model_validate(dict(row) | {"secret": secret})


async def _hook(session: Session, webhook_id: UUID) -> Row:
    row = await repository.hook(session, webhook_id)
    if row is None:
        raise NotFound("There is no such webhook.")
    return row


def _checked(url: str, private_targets: frozenset[str]) -> str:
    """The address in its normal form. What its name stands for is checked at each delivery."""
    try:
        return str(check_url(url, private_targets).with_fragment(None))
    except EgressRefused as error:
        raise InvalidRequest(f"Events cannot be sent there: {error}.", setting="VIBE_PRIVATE_TARGETS") from None


def _digest(act: str, asked: Any) -> bytes:
    return hashlib.sha256(act.encode() + b"\0" + orjson.dumps(asked)).digest()
