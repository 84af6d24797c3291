"""How many runs go on at once: bounded for each worker and each account, in fair turns."""

import asyncio
from typing import Any

from backend.kit.db import Database
from tests.agent.conftest import Apart, Sql, member
from tests.agent.watching import status_is
from tests.client import Product, script

SHORT = script("say one", "wait 0.15", "say two")


async def sent(product: Product, count: int) -> list[dict[str, Any]]:
    """So many runs, in a thread each, sent at once."""
    agent = await product.agent(tools=[])
    threads = [await product.thread(agent) for _ in range(count)]
    return list(await asyncio.gather(*(product.send(thread, SHORT) for thread in threads)))


async def most_at_once(sql: Sql) -> int:
    """The greatest number of runs that were under way in one moment."""
    rows = await sql("SELECT started_at, finished_at FROM runs")
    moments = sorted([(row["started_at"], 1) for row in rows] + [(row["finished_at"], -1) for row in rows])
    now = most = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


async def test_a_worker_holds_no_more_runs_than_it_may(apart: Apart, grace: Product, apart_sql: Sql) -> None:
    apart.worker(VIBE_MAX_RUNS_PER_WORKER="2")
    for run in await sent(grace, 12):
        assert (await grace.finish(run["run_id"]))["status"] == "completed"
    assert await most_at_once(apart_sql) == 2


async def test_an_account_has_no_more_live_runs_than_it_may_over_all_workers(apart: Apart, grace: Product, apart_sql: Sql) -> None:
    for _ in range(2):
        apart.worker(VIBE_MAX_RUNS_PER_ACCOUNT="2")
    for run in await sent(grace, 12):
        assert (await grace.finish(run["run_id"]))["status"] == "completed"
    assert await most_at_once(apart_sql) == 2


async def test_a_person_with_few_runs_does_not_wait_for_one_with_many(apart: Apart, apart_database: Database, grace: Product, apart_sql: Sql) -> None:
    other = await member(apart_database, apart.servers.admin_dsn, "bob@example.org")
    async with other.at(apart.api.url) as bob:
        many, few = await sent(grace, 10), await sent(bob, 2)
        apart.worker(VIBE_MAX_RUNS_PER_WORKER="2")
        for run in many:
            await grace.finish(run["run_id"])
        for run in few:
            assert (await bob.finish(run["run_id"]))["status"] == "completed"
    order = [row["account_id"] == other.account_id for row in await apart_sql("SELECT account_id FROM runs ORDER BY started_at")]
    assert order.index(True) <= 3
    assert [n for n, his in enumerate(order) if his][1] <= 5


async def test_a_waiting_run_stops_though_its_worker_is_full(apart: Apart, grace: Product) -> None:
    apart.worker(VIBE_MAX_RUNS_PER_WORKER="1", VIBE_MAX_RUNS_PER_ACCOUNT="1")
    waiting = await grace.send(await grace.thread(permissions={"shell": "ask"}), script(("shell", {"command": "ls"})))
    await status_is(grace, waiting["run_id"], "waiting_approval")
    busy = await grace.send(await grace.thread(tools=[]), script("hang"))
    await status_is(grace, busy["run_id"], "running")
    await grace.ask("POST", f"/api/runs/{waiting['run_id']}/stop")
    assert (await grace.finish(waiting["run_id"], 2))["status"] == "stopped"
