"""What is left of a deleted thread goes in time."""

import asyncio
from pathlib import Path

import asyncpg

from backend.kit.db import Database
from tests.client import owner
from tests.conftest import Servers
from tests.product import Spawn, Started


async def test_a_workspace_goes_a_week_after_its_thread_was_deleted_and_no_other_does(
    database: Database, server: Started, spawn: Spawn, servers: Servers
) -> None:
    spawn.worker(VIBE_TIDY_SECONDS="0.3")
    person = await owner(database)
    async with person.at(server.url) as product:
        agent = await product.agent()
        old, fresh, kept = [await product.thread(agent) for _ in range(3)]
        for thread in (old, fresh, kept):
            await product.say(thread, "write `x` to x.txt")
        for thread in (old, fresh):
            await product.ask("DELETE", f"/api/threads/{thread}")
    admin = await asyncpg.connect(servers.admin_dsn)
    await admin.execute("UPDATE threads SET deleted_at = now() - interval '8 days' WHERE thread_id = $1", old)
    await admin.close()
    places = [Path(servers.data_dir, "workspaces", thread) for thread in (old, fresh, kept)]
    async with asyncio.timeout(30):
        while places[0].exists():
            await asyncio.sleep(0.05)
    assert [place.exists() for place in places] == [False, True, True]
