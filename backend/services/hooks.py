"""A worker's part in webhooks and notifications: what is sent, and what is forgotten in time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

from backend.kit.db import Database, DatabaseUnavailable
from backend.kit.seal import Sealer
from backend.kit.settings import Settings
from backend.services.webhooks import client, service, tasks
from backend.services.webhooks.courier import Courier

_TIDY_SECONDS = 3600.0


@contextlib.asynccontextmanager
async def open_courier(settings: Settings, database: Database, sealer: Sealer) -> AsyncIterator[Courier]:
    """The process's courier, whom wake-ups reach."""
    async with client.open_session(settings.private_targets, settings.vibe_webhook_seconds) as session:
        courier = Courier(database, session, sealer, lease=timedelta(seconds=3 * settings.vibe_webhook_seconds))
        tasks.serve(courier)
        yield courier


async def tidy_forever(database: Database) -> None:
    """Every hour delete deliveries and notifications whose time is over."""
    while True:
        with contextlib.suppress(DatabaseUnavailable):  # an hour later is soon enough
            await service.forget_old(database)
        await asyncio.sleep(_TIDY_SECONDS)
