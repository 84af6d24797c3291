"""What a run does after its worker was killed, at each place where that can happen."""

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Any

import aiohttp

from tests.client import Person, Product, script
from tests.faults.crew import Crew, until
from tests.faults.watching import Watcher, essence

Line = str | tuple[str, dict[str, Any]]


def results(messages: list[dict[str, Any]]) -> list[str]:
    """What the tools returned."""
    return [m["content"] for m in messages if m["role"] == "tool"]


async def completes(product: Product, run: dict[str, Any]) -> None:
    """The run's end is a good one."""
    ended = await product.finish(run["run_id"])
    assert ended["status"] == "completed", ended["problem"]


async def file(product: Product, thread: str, path: str) -> str:
    """A file of a thread's workspace."""
    response = await product.http.get(f"/api/threads/{thread}/files/content", params={"path": path})
    assert response.status_code == 200, response.text
    return response.text


async def test_a_model_call_is_made_again_and_watchers_end_with_the_same_text(crew: Crew, person: Person) -> None:
    await crew.crew(apis=2, workers=2)
    async with person.at(crew.apis[0].url) as product, aiohttp.ClientSession() as http:
        thread = await product.thread()
        run = await product.send(thread, script("pace 25", "say 60 words"))
        watcher = Watcher(run["run_id"], person.key, lambda: crew.apis[1].url)
        watching = asyncio.create_task(watcher.follow(http))

        async def has_words() -> bool:
            return bool(watcher.seen.state.get("partial") and watcher.seen.state["partial"]["content"])

        await until(has_words)
        first = await crew.holder_of(run["run_id"])
        crew.kill(first)
        seen = await asyncio.wait_for(watching, 30)
        messages = await product.messages(thread)
        assert (seen.status, seen.snapshots) == ("completed", 2)
        assert seen.messages == essence(messages)
        assert len(messages[1]["content"].split()) == 60
        row = await crew.run(run["run_id"])
        assert (row["losses"], row["epoch"], row["steps"]) == (1, 2, 1)


async def test_an_effect_that_may_not_be_repeated_is_not_and_the_model_is_told(crew: Crew, person: Person) -> None:
    await crew.crew(apis=1, workers=2)
    async with person.at(crew.apis[0].url) as product:
        thread = await product.thread()
        run = await product.send(thread, script(("shell", {"command": "echo begun >> log; sleep 60; echo ended >> log"}), "results"))
        await crew.until_step(run["run_id"], "status = 'started'")
        first = await crew.holder_of(run["run_id"])
        await until(lambda: _has(crew, thread, "log"))
        crew.kill(first)
        await completes(product, run)
        messages = await product.messages(thread)
        assert messages[2]["status"] == "unknown" and messages[2]["content"].startswith("outcome unknown")
        assert "outcome unknown" in messages[3]["content"], "the model read it"
        step = await crew.until_step(run["run_id"], "kind = 'tool_call'")
        assert (step["status"], step["attempts"]) == ("unknown", 1)
        assert await file(product, thread, "log") == "begun\n"


async def _has(crew: Crew, thread: str, name: str) -> bool:
    return Path(crew.environment["VIBE_DATA_DIR"], "workspaces", thread, "files", name).exists()


async def test_an_idempotent_effect_is_repeated_with_the_same_key(crew: Crew, person: Person) -> None:
    await crew.crew(apis=1, workers=2)
    async with person.at(crew.apis[0].url) as product:
        thread = await product.thread()
        # While the test holds the workspace, the call cannot get further than its intent.
        workspace = Path(crew.environment["VIBE_DATA_DIR"], "workspaces", thread)
        workspace.mkdir(parents=True)
        lock = os.open(workspace / "lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = await product.send(thread, script(("write_file", {"path": "notes", "content": "kept"}), "say finished"))
        before = await crew.until_step(run["run_id"], "status = 'started'")
        crew.kill(await crew.holder_of(run["run_id"]))
        os.close(lock)
        await completes(product, run)
        after = await crew.until_step(run["run_id"], "kind = 'tool_call'")
        assert (after["status"], after["attempts"], after["idempotency_key"]) == ("done", 2, before["idempotency_key"])
        assert await file(product, thread, "notes") == "kept"


async def test_an_act_that_waits_for_a_person_survives_every_worker_and_is_done_once(crew: Crew, person: Person) -> None:
    await crew.crew(apis=1, workers=1)
    async with person.at(crew.apis[0].url) as product:
        thread = await product.thread(permissions={"shell": "ask"})
        run = await product.send(thread, script(("shell", {"command": "echo done >> log"}), "say finished"))
        await crew.until_run(run["run_id"], "status = 'waiting_approval'")
        crew.kill(crew.workers[0])
        approval = (await product.ask("GET", "/api/approvals?status=pending"))["items"][0]
        await product.ask("POST", f"/api/approvals/{approval['approval_id']}/decision", {"decision": "approve", "act_hash": approval["act_hash"]})
        crew.worker()
        await completes(product, run)
        assert await file(product, thread, "log") == "done\n"
        row = await crew.run(run["run_id"])
        assert row["losses"] == 0
        assert (await product.ask("GET", f"/api/approvals/{approval['approval_id']}"))["status"] == "used"
        again = await product.http.post(f"/api/approvals/{approval['approval_id']}/decision", json={"decision": "approve", "act_hash": approval["act_hash"]})
        assert again.status_code == 409


async def test_a_worker_killed_after_the_approval_was_used_does_not_act_twice(crew: Crew, person: Person) -> None:
    await crew.crew(apis=1, workers=2)
    async with person.at(crew.apis[0].url) as product:
        thread = await product.thread(permissions={"shell": "ask"})
        run = await product.send(thread, script(("shell", {"command": "echo done >> log; sleep 60"}), "say finished"))
        await crew.until_run(run["run_id"], "status = 'waiting_approval'")
        approval = (await product.ask("GET", "/api/approvals?status=pending"))["items"][0]
        await product.ask("POST", f"/api/approvals/{approval['approval_id']}/decision", {"decision": "approve", "act_hash": approval["act_hash"]})
        await crew.until_step(run["run_id"], "status = 'started'")
        await until(lambda: _has(crew, thread, "log"))
        crew.kill(await crew.holder_of(run["run_id"]))
        await completes(product, run)
        assert results(await product.messages(thread))[0].startswith("outcome unknown")
        assert await file(product, thread, "log") == "done\n"


async def test_a_run_that_loses_its_worker_five_times_fails_with_the_reason(crew: Crew, person: Person) -> None:
    await crew.crew(apis=1, workers=1)
    async with person.at(crew.apis[0].url) as product, aiohttp.ClientSession() as http:
        thread = await product.thread()
        run = await product.send(thread, script(("shell", {"command": "sleep 60"})))
        await crew.until_step(run["run_id"], "status = 'started'")
        crew.kill(crew.workers[0])
        await crew.until_run(run["run_id"], "lease_until < clock_timestamp()")
        for n in range(1, 5):  # four more workers that take it and are gone
            taken = await crew.fetch("SELECT losses FROM claim_run($1, $2, '1 ms', 100)", run["run_id"], f"gone:{n}")
            assert [row["losses"] for row in taken] == [n]
            await crew.until_run(run["run_id"], "lease_until < clock_timestamp()", 5)
        crew.worker()
        ended = await product.finish(run["run_id"])
        assert (ended["status"], ended["losses"]) == ("failed", 5)
        assert "5 times" in ended["problem"]["detail"]
        messages = await product.messages(thread)
        assert [m["role"] for m in messages] == ["user", "assistant", "tool"], "no call is left without its result"
        assert messages[2]["status"] == "unknown"
        assert (await Watcher(run["run_id"], person.key, lambda: crew.apis[0].url).follow(http)).messages == essence(messages)
        assert (await product.say(thread, script("say it goes on")))["status"] == "completed"


async def test_the_sandbox_starts_again_on_the_same_files_and_the_model_hears_what_was_running(crew: Crew, person: Person) -> None:
    await crew.crew(apis=1, workers=2)
    async with person.at(crew.apis[0].url) as product:
        thread = await product.thread()
        lines: list[Line] = [("shell_start", {"command": "sleep 1234"}), ("shell", {"command": "echo kept > file"}), "pace 20", "say 30 words", ("shell", {"command": "cat file"})]
        run = await product.send(thread, script(*lines, "results"))
        await crew.until_run(run["run_id"], "steps = 2 AND EXISTS (SELECT 1 FROM messages m WHERE m.run_id = runs.run_id AND tool_name = 'shell')")
        crew.kill(await crew.holder_of(run["run_id"]))
        await completes(product, run)
        told = results(await product.messages(thread))[2]
        assert "The sandbox was restarted" in told and "sleep 1234" in told
        assert "kept" in told
