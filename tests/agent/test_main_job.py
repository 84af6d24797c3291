"""A message becomes a durable, streamed, tool-using run."""

from backend.kit.db import Database
from tests.client import owner, script
from tests.product import Started


async def test_a_message_becomes_a_run_that_uses_the_sandbox_and_answers(database: Database, server: Started, worker: Started) -> None:
    person = await owner(database)
    async with person.at(server.url) as product:
        thread = await product.thread()
        run = await product.send(thread, "run `echo hello from the box`")
        seen = [event async for _, event in product.events(run["run_id"])]
        assert seen[0]["type"] == "stream.snapshot"
        assert seen[-1] | {"title": None} == {"type": "run.finished", "status": "completed", "problem": None, "title": None}
        messages = await product.messages(thread)
        assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant"]
        assert "hello from the box" in messages[2]["content"]
        assert messages[2]["receipt"]["exit_code"] == 0
        assert [m["seq"] for m in messages] == [1, 2, 3, 4]
        assert (await product.finish(run["run_id"]))["steps"] == 2


async def test_waiting_for_a_background_command_is_no_loop(database: Database, server: Started, worker: Started) -> None:
    person = await owner(database)
    async with person.at(server.url) as product:
        thread = await product.thread()
        polls = [("shell_output", {"process": "p2", "wait": 1})] * 4
        run = await product.say(thread, script(("shell_start", {"command": "sleep 30"}), *polls, ("shell_stop", {"process": "p2"}), 'say "done"'))
        assert run["status"] == "completed", run["problem"]
        results = [m["content"] for m in await product.messages(thread) if m["role"] == "tool"]
        assert "running for" in results[1]
