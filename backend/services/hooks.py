"""A worker's part in services: what is sent, and what is forgotten in time."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import timedelta

from backend.kit.db import Database, DatabaseUnavailable
from backend.kit.seal import Sealer
from backend.kit.settings import Settings
from backend.services.attachments import service as attachments
from backend.services.attachments.blobs import Blobs
from backend.services.webhooks import client, service, tasks
from backend.services.webhooks.courier import Courier

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def open_courier(settings: Settings, database: Database, sealer: Sealer) -> AsyncIterator[Courier]:
    """The process's courier, whom wake-ups reach."""
    async with client.open_session(settings.private_targets, settings.vibe_webhook_seconds) as session:
        courier = Courier(database, session, sealer, lease=timedelta(seconds=3 * settings.vibe_webhook_seconds))
        tasks.serve(courier)
        yield courier


async def tidy_forever(settings: Settings, database: Database) -> None:
    """At the start and every hour delete news whose time is over, and files that no message has."""
    blobs = Blobs(settings.vibe_data_dir)
    while True:
        try:
            await service.forget_old(database)
            await attachments.tidy(database, blobs)
        except (DatabaseUnavailable, OSError) as error:  # the next time is soon enough
            log.warning("tidying was broken off", extra={"error": str(error)})
        await asyncio.sleep(settings.vibe_tidy_seconds)
