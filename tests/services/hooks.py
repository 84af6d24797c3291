"""A person with a webhook, as the tests of services need one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from tests.agent.conftest import Apart, Sql
from tests.client import Product
from tests.product import Started
from tests.wire.webhook_server import WebhookServer

ALL = ["run.finished", "approval.requested", "approval.decided"]
DEADLINE = 30.0


def target(receiver: WebhookServer) -> str:
    """`localhost:port`: a name, which is looked up when connecting."""
    return f"localhost:{urlsplit(receiver.url).port}"


def courier(apart: Apart, receiver: WebhookServer, **environment: str) -> Started:
    """A worker that may reach the receiver."""
    return apart.worker(VIBE_PRIVATE_TARGETS=target(receiver), **environment)


async def listen(product: Product, receiver: WebhookServer, events: list[str] | None = None) -> dict[str, Any]:
    """A webhook to the receiver, which knows its secret from now on."""
    hook = await product.ask("POST", "/api/webhooks", {"url": f"http://{target(receiver)}/hook", "events": events or ALL}, expect=201)
    receiver.secret = hook["secret"]
    return hook  # type: ignore[no-any-return]


async def until(look: Callable[[], Awaitable[Any]], deadline: float = DEADLINE) -> Any:
    """What `look` returns when it is something."""
    async with asyncio.timeout(deadline):
        while not (found := await look()):
            await asyncio.sleep(0.05)
    return found


async def arrived(receiver: WebhookServer, count: int) -> list[dict[str, Any]]:
    """The events that the receiver has, when there are so many."""

    async def look() -> bool:
        return len(receiver.sent) >= count

    await until(look)
    return receiver.sent


async def delivery(product: Product, hook: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    """The webhook's newest delivery, when it is as wanted."""

    async def look() -> dict[str, Any] | None:
        items = (await product.ask("GET", f"/api/webhooks/{hook['webhook_id']}/deliveries"))["items"]
        fits = items and all(items[0][name] == value for name, value in wanted.items())
        return items[0] if fits else None

    return await until(look)  # type: ignore[no-any-return]


async def later(sql: Sql) -> None:
    """Time passes: whatever waits is due."""
    await sql("UPDATE webhook_deliveries SET due_at = clock_timestamp(), lease_until = NULL WHERE status = 'pending'")
