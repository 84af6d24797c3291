"""Processes that leave in order, stall or oversleep, and wake-ups that come fifty times, late or never."""

import asyncio
import os
import signal
import time
from uuid import UUID

import aiohttp
import dramatiq
import psutil
import redis.asyncio as aioredis

from backend.agent.runs import service
from backend.agent.schemas import NewRun, UserMessage
from backend.kit.db import Database
from backend.kit.tasks import QUEUE, WakingBroker
from tests.client import Person, script
from tests.faults.crew import Crew, Servers, cpu_seconds, until
from tests.faults.test_resume import completes, file
from tests.faults.watching import Watcher, essence


async def test_a_worker_that_leaves_hands_its_runs_over_in_less_than_two_seconds(crew: Crew, person: Person) -> None:
    await crew.crew(apis=1, workers=2)
    async with person.at(crew.apis[0].url) as product:
        threads = [await product.thread() for _ in range(6)]
        runs = [await product.send(thread, script("pace 20", "say 50 words", ("shell", {"command": "echo fine"}), "pace 40", "say 40 words")) for thread in threads]
        for run in runs:
            await crew.until_run(run["run_id"], "status = 'running'")
        leaver = crew.workers[0]
        held = [row["run_id"] for row in await crew.fetch("SELECT run_id FROM runs WHERE lease_owner LIKE $1", f"%:{crew.pid(leaver)}:%")]
        asked = time.monotonic()
        leaving = asyncio.create_task(crew.leave(leaver))
        left = "SELECT 1 FROM runs WHERE run_id = ANY ($1) AND status = 'running' AND (lease_owner IS NULL OR lease_owner LIKE $2)"
        await until(lambda: crew.fetch(f"SELECT 1 WHERE NOT EXISTS ({left})", held, f"%:{crew.pid(leaver)}:%"), pause=0.01)
        took = time.monotonic() - asked
        print(f"{len(held)} runs went on elsewhere after {took:.2f} s")
        assert await leaving == 0
        for run in runs:
            await completes(product, run)
            assert (await crew.run(run["run_id"]))["losses"] == 0
        assert took < 2.0


async def test_a_short_command_is_let_to_end_before_its_worker_leaves(crew: Crew, person: Person) -> None:
    await crew.crew(apis=1, workers=2)
    async with person.at(crew.apis[0].url) as product:
        thread = await product.thread()
        run = await product.send(thread, script(("shell", {"command": "echo begun >> log; sleep 0.6; echo ended >> log"}), ("shell", {"command": "cat log"}), "results"))
        await until(lambda: crew.fetch("SELECT 1 FROM run_steps WHERE status = 'started'"), pause=0.005)
        await until(lambda: _written(crew, thread), pause=0.005)
        leaver = await crew.holder_of(run["run_id"])
        asked = time.monotonic()
        leaving = asyncio.create_task(crew.leave(leaver))
        await crew.until_run(run["run_id"], "epoch > 1 AND lease_owner IS NOT NULL")
        print(f"it went on elsewhere after {time.monotonic() - asked:.2f} s")
        assert await leaving == 0
        await completes(product, run)
        tools = [m for m in await product.messages(thread) if m["role"] == "tool"]
        assert [m["status"] for m in tools] == ["ok", "ok"]
        assert tools[1]["content"].endswith("begun\nended")
        assert (await crew.run(run["run_id"]))["losses"] == 0


async def test_a_long_command_does_not_keep_its_worker_and_the_model_is_told(crew: Crew, person: Person) -> None:
    await crew.crew(apis=1, workers=2)
    async with person.at(crew.apis[0].url) as product:
        thread = await product.thread()
        run = await product.send(thread, script(("shell", {"command": "echo begun >> log; sleep 60; echo ended >> log"}), ("shell", {"command": "cat log"}), "results"))
        await until(lambda: _written(crew, thread), pause=0.005)
        leaver = await crew.holder_of(run["run_id"])
        asked = time.monotonic()
        leaving = asyncio.create_task(crew.leave(leaver))
        await crew.holder_of(run["run_id"], besides=leaver)
        took = time.monotonic() - asked
        print(f"it went on elsewhere after {took:.2f} s")
        assert await leaving == 0
        await completes(product, run)
        tools = [m for m in await product.messages(thread) if m["role"] == "tool"]
        assert [m["status"] for m in tools] == ["unknown", "ok"], tools[1]["content"]
        assert tools[1]["content"].endswith("begun")
        assert (await crew.run(run["run_id"]))["losses"] == 0
        assert took < 2.0


async def _written(crew: Crew, thread: str) -> bool:
    return os.path.exists(f"{crew.environment['VIBE_DATA_DIR']}/workspaces/{thread}/files/log")


async def test_an_api_process_that_leaves_ends_its_streams_and_the_watchers_go_on_elsewhere(crew: Crew, person: Person) -> None:
    await crew.crew(apis=2, workers=1)
    leaver, stayer = crew.apis
    async with person.at(stayer.url) as product, aiohttp.ClientSession() as http:
        thread = await product.thread()
        run = await product.send(thread, script("pace 20", "say 90 words"))
        watcher = Watcher(run["run_id"], person.key, lambda: leaver.url if leaver in crew.apis else stayer.url)
        watching = asyncio.create_task(watcher.follow(http))

        async def watches() -> bool:
            return bool(watcher.seen.state)

        await until(watches)
        asked = time.monotonic()
        assert await crew.leave(leaver) in (0, -signal.SIGTERM)
        print(f"the api process left after {time.monotonic() - asked:.2f} s")
        assert time.monotonic() - asked < 2
        seen = await asyncio.wait_for(watching, 30)
        assert watcher.connections >= 2
        assert seen.messages == essence(await product.messages(thread))


async def test_fifty_wake_ups_of_one_run_run_it_once(crew: Crew, person: Person, own_servers: Servers) -> None:
    await crew.crew(apis=1, workers=2)
    broker = WakingBroker(own_servers.valkey.url)
    broker.declare_queue(QUEUE)
    async with person.at(crew.apis[0].url) as product:
        thread = await product.thread()
        run = await product.send(thread, script(("shell", {"command": "echo once >> log"}), "pace 30", "say 30 words"))
        for _ in range(50):
            broker.enqueue(dramatiq.Message(queue_name=QUEUE, actor_name=service.WAKE, args=(), kwargs={"run_id": run["run_id"]}, options={}))
        await completes(product, run)
        for _ in range(10):
            broker.enqueue(dramatiq.Message(queue_name=QUEUE, actor_name=service.WAKE, args=(), kwargs={"run_id": run["run_id"]}, options={}))
        await product.say(thread, script("say after"))  # the late wake-ups were read before this one
        assert (await crew.run(run["run_id"]))["epoch"] == 1
        assert await file(product, thread, "log") == "once\n"
        assert len(await product.messages(thread)) == 6
    broker.close()


async def test_a_run_whose_wake_up_never_came_is_found(crew: Crew, person: Person) -> None:
    await crew.crew(apis=1, workers=1)
    database = await Database.connect(crew.environment["DATABASE_URL"])
    async with person.at(crew.apis[0].url) as product:
        thread = await product.thread()
        async with database.transaction(person.account_id) as session:
            message = UserMessage(message_id=UUID(int=7), content=script("say found"))
            run = await service.start_within(session, UUID(thread), NewRun(message=message))
            assert [name for name, _ in session.outbox] == [service.WAKE]
            session.outbox.clear()
        began = time.monotonic()
        assert (await product.finish(str(run.run_id)))["status"] == "completed"
        print(f"found and answered after {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < 5
    await database.close()


async def test_wake_ups_lost_with_valkey_are_made_up_for(crew: Crew, person: Person, own_servers: Servers) -> None:
    await crew.crew(apis=1, workers=0)
    async with person.at(crew.apis[0].url) as product:
        threads = [await product.thread() for _ in range(5)]
        runs = [await product.send(thread, script("say found")) for thread in threads]
        async with aioredis.from_url(own_servers.valkey.url) as client:
            await client.flushall()
        crew.worker()
        for run in runs:
            await completes(product, run)


async def test_a_worker_that_overslept_its_lease_cannot_write_one_more_row(crew: Crew, person: Person) -> None:
    await crew.crew(apis=1, workers=2)
    async with person.at(crew.apis[0].url) as product, aiohttp.ClientSession() as http:
        thread = await product.thread()
        run = await product.send(thread, script("pace 25", "say 50 words", ("shell", {"command": "echo once >> log"}), "pace 25", "say 30 words"))
        watching = asyncio.create_task(Watcher(run["run_id"], person.key, lambda: crew.apis[0].url).follow(http))
        sleeper = await crew.holder_of(run["run_id"])
        os.kill(crew.pid(sleeper), signal.SIGSTOP)
        await crew.holder_of(run["run_id"], besides=sleeper)
        os.kill(crew.pid(sleeper), signal.SIGCONT)

        async def let_go() -> bool:
            return b"a run was let go" in sleeper.log.read_bytes()

        await until(let_go, 10)
        await completes(product, run)
        row = await crew.run(run["run_id"])
        assert (row["epoch"], row["losses"], row["steps"]) == (2, 1, 2)
        assert {step["epoch"] for step in await crew.fetch("SELECT epoch FROM run_steps")} == {2}
        messages = await product.messages(thread)
        assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant"]
        assert await file(product, thread, "log") == "once\n"
        assert (await watching).messages == essence(messages)


async def test_a_worker_frozen_in_a_tool_call_leaves_its_workspace_to_the_new_owner(crew: Crew, person: Person) -> None:
    await crew.crew(apis=1, workers=2)
    async with person.at(crew.apis[0].url) as product:
        thread = await product.thread()
        run = await product.send(thread, script(("shell", {"command": "echo begun >> log; sleep 30; echo ended >> log"}), ("shell", {"command": "cat log"}), "results"))
        await until(lambda: _written(crew, thread))
        sleeper = await crew.holder_of(run["run_id"])
        os.kill(crew.pid(sleeper), signal.SIGSTOP)
        await crew.holder_of(run["run_id"], besides=sleeper)
        os.kill(crew.pid(sleeper), signal.SIGCONT)
        await completes(product, run)
        tools = [m for m in await product.messages(thread) if m["role"] == "tool"]
        assert [m["status"] for m in tools] == ["unknown", "ok"], tools[1]["content"]
        assert tools[1]["content"].endswith("begun")


async def test_an_idle_worker_asks_seldom(crew: Crew, person: Person, own_servers: Servers) -> None:
    await crew.crew(apis=0, workers=1)
    worker = crew.workers[0]
    async with aioredis.from_url(own_servers.valkey.url) as client:

        async def asked() -> tuple[int, int, float]:
            commands = (await client.info("stats"))["total_commands_processed"]
            commits = (await crew.fetch("SELECT xact_commit AS n FROM pg_stat_database WHERE datname = current_database()"))[0]["n"]
            return int(commands), int(commits), cpu_seconds(worker)

        before, began = await asked(), time.monotonic()

        async def four_seconds() -> bool:
            return time.monotonic() - began > 4

        await until(four_seconds, pause=0.5)
        after, took = await asked(), time.monotonic() - began
    commands, commits, cpu = (b - a for a, b in zip(before, after, strict=True))
    print(f"an idle worker: {commands / took:.1f} Valkey commands, {commits / took:.1f} transactions, {100 * cpu / took:.1f} % of a core a second")
    assert commands / took < 10 and commits / took < 5
    assert cpu / took < 0.05
    assert psutil.Process(crew.pid(worker)).is_running()
