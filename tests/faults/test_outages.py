"""Valkey gone for a while, and Postgres shut down in the middle of runs: refused clearly or accepted, never lost, never stuck."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from tests.client import Person, Product, script
from tests.faults.crew import Crew, Servers, until
from tests.faults.test_resume import completes, file
from tests.faults.watching import Transcript, Watcher, essence
from tests.product import Started

SECONDS = float(os.environ.get("VIBE_TEST_OUTAGE_SECONDS") or 10)
_LONGEST = 5.0  # seconds that any answer may take


@asynccontextmanager
async def valkey_away(servers: Servers) -> AsyncIterator[None]:
    """Its process has ended."""
    await servers.valkey.stop()
    assert not servers.valkey.running
    try:
        yield
    finally:
        await servers.valkey.start()


@asynccontextmanager
async def valkey_frozen(servers: Servers) -> AsyncIterator[None]:
    """It accepts connections and answers nothing."""
    servers.freeze_valkey(signal.SIGSTOP)
    try:
        yield
    finally:
        servers.freeze_valkey(signal.SIGCONT)


@asynccontextmanager
async def postgres_away(servers: Servers) -> AsyncIterator[None]:
    """An immediate shutdown cut every connection."""
    await servers.break_postgres()
    try:
        yield
    finally:
        await servers.postgres.start()


def watch(http: aiohttp.ClientSession, crew: Crew, person: Person, run: dict[str, Any], api: Started | None = None) -> tuple[Watcher, "asyncio.Task[Transcript]"]:
    """A watcher of a run and its task."""
    watcher = Watcher(run["run_id"], person.key, lambda: (api or crew.apis[0]).url)
    return watcher, asyncio.create_task(watcher.follow(http))


async def ask(product: Product, method: str, path: str, body: Any = None) -> Any:
    """A request's answer, which must come in time and may not be a fault of ours."""
    began = time.monotonic()
    response = await product.http.request(method, path, json=body)
    assert time.monotonic() - began < _LONGEST, path
    assert response.status_code != 500, response.text
    return response


def message(text: str) -> dict[str, Any]:
    """A new message's body."""
    return {"message": {"message_id": str(uuid4()), "content": text}}


async def test_while_valkey_is_away_messages_are_accepted_and_runs_go_on(crew: Crew, person: Person, own_servers: Servers) -> None:
    await crew.crew(apis=2, workers=2)
    async with person.at(crew.apis[0].url) as product, aiohttp.ClientSession() as http:
        agent = await product.agent()
        threads = [await product.thread(agent) for _ in range(6)]
        work = script("pace 20", "say 30 words", ("shell", {"command": "echo once >> log"}), "pace 20", "say 40 words")
        runs = [await product.send(thread, work) for thread in threads[:3]]
        watchers = [watch(http, crew, person, run, api)[1] for run in runs for api in crew.apis]
        await until(lambda: crew.fetch("SELECT 1 FROM runs WHERE status = 'running'"))
        async with valkey_away(own_servers):
            began = time.monotonic()
            for thread in threads[3:]:
                answer = await ask(product, "POST", f"/api/threads/{thread}/runs", message(work))
                assert answer.status_code == 202, answer.text
                runs.append(answer.json())
                watchers.append(watch(http, crew, person, runs[-1])[1])
            for path in (f"/api/threads/{threads[0]}/messages", "/api/agents", f"/api/runs/{runs[0]['run_id']}"):
                assert (await ask(product, "GET", path)).status_code == 200
            assert (await ask(product, "GET", f"/api/threads/{threads[0]}/files")).status_code == 503
            ready = await ask(product, "GET", "/health/ready")
            assert ready.status_code == 503 and next(part["name"] for part in ready.json()["parts"] if not part["ok"]) == "redis"
            for run in runs:
                await completes(product, run)
            ended = time.monotonic()
            print(f"{len(runs)} runs ended within {ended - began:.1f} s without Valkey")
            seen = await asyncio.gather(*(asyncio.wait_for(task, 20) for task in watchers))
            print(f"the last watcher knew {time.monotonic() - ended:.1f} s after the last end")
            last = await product.send(await product.thread(agent), script("pace 10", f"say {int(10 * (SECONDS + 8))} words"))
            late = watch(http, crew, person, last)
            await until(lambda: _passed(began, SECONDS), SECONDS + 10)
        back = time.monotonic()

        async def has_words() -> bool:
            return bool(late[0].seen.state.get("partial") and late[0].seen.state["partial"]["content"])

        await until(has_words, 10)
        print(f"the stream of a run went on {time.monotonic() - back:.1f} s after Valkey was back")
        seen.append(await asyncio.wait_for(late[1], 60))
        for transcript in seen:
            run = transcript.state["run"]
            assert transcript.status == "completed"
            assert transcript.messages == essence(await product.messages(run["thread_id"]))
        for thread in threads:
            assert await file(product, thread, "log") == "once\n"
        assert {row["losses"] for row in await crew.fetch("SELECT losses FROM runs")} == {0}


async def _passed(since: float, seconds: float) -> bool:
    return time.monotonic() - since >= seconds


async def test_a_valkey_that_hangs_holds_up_neither_requests_nor_runs(crew: Crew, person: Person, own_servers: Servers) -> None:
    await crew.crew(apis=1, workers=2)
    async with person.at(crew.apis[0].url) as product, aiohttp.ClientSession() as http:
        agent = await product.agent()
        threads = [await product.thread(agent) for _ in range(3)]
        work = script("pace 20", "say 20 words", ("shell", {"command": "echo once >> log"}), "pace 20", "say 20 words")
        runs = [await product.send(threads[0], work)]
        watching = [watch(http, crew, person, runs[0])[1]]
        await crew.holder_of(runs[0]["run_id"])
        async with valkey_frozen(own_servers):
            for thread in threads[1:]:
                answer = await ask(product, "POST", f"/api/threads/{thread}/runs", message(work))
                assert answer.status_code == 202, answer.text
                runs.append(answer.json())
                watching.append(watch(http, crew, person, runs[-1])[1])
            stopped = await ask(product, "POST", f"/api/runs/{runs[2]['run_id']}/stop")
            assert stopped.status_code == 202
            ended = [await product.finish(run["run_id"]) for run in runs]
            assert [run["status"] for run in ended] == ["completed", "completed", "stopped"]
            seen = await asyncio.gather(*(asyncio.wait_for(task, 20) for task in watching))
        for transcript in seen:
            assert transcript.messages == essence(await product.messages(transcript.state["run"]["thread_id"]))
        assert {row["losses"] for row in await crew.fetch("SELECT losses FROM runs")} == {0}


async def test_a_worker_and_an_api_process_start_while_valkey_is_away(crew: Crew, person: Person, own_servers: Servers) -> None:
    await crew.crew(apis=0, workers=0)
    async with valkey_away(own_servers):
        await crew.crew(apis=1, workers=1)
        async with person.at(crew.apis[0].url) as product:
            assert (await product.say(await product.thread(), script("say here I am")))["status"] == "completed"


@pytest.mark.parametrize("seconds", [0.5, 4.0], ids=["for half a second", "for twice a lease"])
async def test_postgres_restarts_in_the_middle_of_runs(crew: Crew, person: Person, own_servers: Servers, seconds: float) -> None:
    await crew.crew(apis=2, workers=2)
    async with person.at(crew.apis[0].url) as product, aiohttp.ClientSession() as http:
        agent = await product.agent()
        threads = [await product.thread(agent) for _ in range(4)]
        texts = [
            script("pace 20", "say 30 words"),  # its answer is finished while there is no database
            script(("shell", {"command": "sleep 1.2; echo once >> log"}), "pace 20", "say 20 words"),
            script(("write_file", {"path": "log", "content": "once\n"}), "pace 20", "say 60 words", ("shell", {"command": "cat log"}), "results"),
            script("pace 20", "say 10 words", ("list_files", {}), "pace 20", f"say {int(20 * (seconds + 3))} words"),
        ]
        runs = [await product.send(thread, text) for thread, text in zip(threads, texts, strict=True)]
        watchers = [watch(http, crew, person, run, api)[1] for run in runs for api in crew.apis]
        await until(lambda: crew.fetch("SELECT 1 WHERE (SELECT count(*) FROM runs WHERE status = 'running') = 4"))
        await crew.until_step(runs[1]["run_id"], "status = 'started'")
        async with postgres_away(own_servers):
            began = time.monotonic()
            while time.monotonic() - began < seconds:
                for method, path, body in (
                    ("GET", f"/api/threads/{threads[0]}/messages", None),
                    ("GET", f"/api/runs/{runs[0]['run_id']}/events", None),
                    ("POST", f"/api/threads/{threads[0]}/runs", message("lost?")),
                    ("GET", "/health/ready", None),
                ):
                    answer = await ask(product, method, path, body)
                    assert answer.status_code == 503
                    assert path == "/health/ready" or int(answer.headers["Retry-After"]) > 0
                assert (await ask(product, "GET", "/health/live")).status_code == 200
        back = time.monotonic()

        async def answers() -> bool:
            return bool((await ask(product, "GET", f"/api/threads/{threads[0]}/messages")).status_code == 200)

        await until(answers, 10)
        print(f"the api answers {time.monotonic() - back:.2f} s after Postgres was back")
        for run in runs:
            await completes(product, run)
        for transcript in await asyncio.gather(*(asyncio.wait_for(task, 30) for task in watchers)):
            assert transcript.messages == essence(await product.messages(transcript.state["run"]["thread_id"]))
        for thread in threads[1:3]:
            assert await file(product, thread, "log") == "once\n"
        rows = await crew.fetch("SELECT epoch, losses FROM runs")
        assert [(row["epoch"], row["losses"]) for row in rows] == [(1, 0)] * 4, "living workers keep their runs, and no finished answer is asked for again"
        assert [m["seq"] for m in await product.messages(threads[0])] == [1, 2], "a refused message left nothing"
        assert (await product.say(threads[0], script("say and on")))["status"] == "completed"


async def test_a_worker_ends_when_a_part_of_it_fails_instead_of_living_on_without_it(crew: Crew, person: Person) -> None:
    await crew.crew(apis=1, workers=1)
    worker = crew.workers[0]
    async with person.at(crew.apis[0].url) as product:
        run = await product.send(await product.thread(), script("pace 10", "say 60 words"))
        await crew.holder_of(run["run_id"])
        await crew.admin.execute("REVOKE EXECUTE ON FUNCTION extend_leases FROM vibe_app")
        try:

            async def ended() -> bool:
                return worker.child is not None and worker.child.poll() is not None

            await until(ended, 10)
            assert worker.child is not None and worker.child.returncode != 0
        finally:
            await crew.admin.execute("GRANT EXECUTE ON FUNCTION extend_leases TO vibe_app")
        crew.kill(worker)
        crew.worker()
        await completes(product, run)
        assert (await crew.run(run["run_id"]))["losses"] == 0
