"""What is left of a deleted thread goes in time."""

import asyncio
from pathlib import Path

from tests.agent.conftest import Apart, Sql
from tests.client import Product


async def test_a_workspace_goes_a_week_after_its_thread_was_deleted_and_no_other_does(apart: Apart, grace: Product, apart_sql: Sql) -> None:
    apart.worker(VIBE_TIDY_SECONDS="0.3")
    agent = await grace.agent()
    old, fresh, kept = [await grace.thread(agent) for _ in range(3)]
    for thread in (old, fresh, kept):
        await grace.say(thread, "write `x` to x.txt")
    for thread in (old, fresh):
        await grace.ask("DELETE", f"/api/threads/{thread}")
    await apart_sql("UPDATE threads SET deleted_at = now() - interval '8 days' WHERE thread_id = $1", old)
    places = [Path(apart.environment["VIBE_DATA_DIR"], "workspaces", thread) for thread in (old, fresh, kept)]
    async with asyncio.timeout(30):
        while places[0].exists():
            await asyncio.sleep(0.05)
    assert [place.exists() for place in places] == [False, True, True]
