"""A run that burns money is ended, however far its whole limit is."""

from backend.kit.db import Database
from tests.client import owner, script
from tests.product import Started


async def test_a_run_that_spends_too_fast_is_ended_before_its_next_call(database: Database, server: Started, worker: Started) -> None:
    person = await owner(database)
    async with person.at(server.url) as product:
        await product.ask("PUT", "/api/inference/models/price", {"model": "scripted/demo", "input_price": 0, "output_price": 1_000_000_000, "cached_price": 0})
        thread = await product.thread(limits={"max_cost_per_minute_micro_usd": 5_000})
        calls = [("list_files", {"path": f"/workspace/{n}"}) for n in range(5)]
        run = await product.say(thread, script(*calls))
        assert run["status"] == "failed"
        assert run["problem"]["title"] == "The run spends faster than its agent allows"
        assert 1 <= run["steps"] < 5
