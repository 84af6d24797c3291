"""Runs with tools while workers and api processes are killed at random and Valkey is emptied: nothing is lost, nothing is done twice."""

import asyncio
import os
import random
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import redis.asyncio as aioredis

from tests.client import TERMINAL, Person, script
from tests.faults.crew import Crew, Servers, until
from tests.faults.watching import Transcript, Watcher, essence
from tests.product import Started

_LOST = (aiohttp.ClientError, OSError, TimeoutError)


@dataclass
class Sent:
    """A message, what its run is to do, and who watches it."""

    thread_id: str
    token: str
    text: str
    calls: list[str]
    message_id: str = field(default_factory=lambda: str(uuid4()))
    run_id: str = ""
    ended: bool = False
    watchers: list["asyncio.Task[Transcript]"] = field(default_factory=list)


@dataclass
class Figures:
    """What was killed, and how long its runs then rested (seconds)."""

    workers: int = 0
    apis: int = 0
    resumed: list[float] = field(default_factory=list)

    def p95(self) -> float:
        """95th percentile of the rests."""
        return sorted(self.resumed)[min(len(self.resumed) - 1, int(len(self.resumed) * 0.95))] if self.resumed else 0.0


def task(dice: random.Random, thread_id: str) -> Sent:
    """A message whose run uses tools of some effect classes and streams text for one to four seconds."""
    token = f"token-{dice.getrandbits(48):012x}"
    write = [("write_file", {"path": f"{token}.txt", "content": f"the content of {token}"})]
    append = [("shell", {"command": f"echo {token} >> once.log; sleep {dice.choice(['0', '0.1', '0.4'])}"})]
    reads = [("list_files", {"path": "/workspace"}), ("search_files", {"pattern": token}), ("shell_processes", {})]
    turns: list[list[tuple[str, dict[str, Any]]]] = dice.choice([[write, reads], [append], [reads], [write, append], [append, write, reads], []])
    lines: list[str] = [f"pace {dice.randint(30, 60)}"]
    for turn in turns:
        lines.append(f"say {dice.randint(3, 20)} words")
        written = script(*turn).splitlines()[1:]
        lines += [f"{line} &" for line in written[:-1]] + written[-1:]
    lines.append(f"say {dice.randint(30, 120)} words")
    return Sent(thread_id, token, script(*lines), [name for turn in turns for name, _ in turn])


class Storm:
    """The load, the killing and the watching of one test."""

    def __init__(self, crew: Crew, person: Person, servers: Servers, dice: random.Random) -> None:
        self.crew, self.person, self.servers, self.dice = crew, person, servers, dice
        self.sent: list[Sent] = []
        self.figures = Figures()
        self.restless = random.Random(dice.getrandbits(32))
        self._measuring: list[asyncio.Task[None]] = []

    @property
    def ended(self) -> int:
        """How many runs have ended."""
        return sum(one.ended for one in self.sent)

    def anywhere(self) -> str:
        """The address of some api process, perhaps one that has just died."""
        return self.restless.choice(self.crew.apis).url

    async def converse(self, http: aiohttp.ClientSession, tasks: list[Sent]) -> None:
        """Send a thread's messages, with up to two of them waiting; whatever breaks is sent again with the same id."""
        for number, one in enumerate(tasks):
            if number >= 2:
                await self._end_of(http, tasks[number - 2])
            await self._send(http, one)
            key = self.person.key
            stays = Watcher(one.run_id, key, lambda: self.crew.apis[0].url)
            leaves = Watcher(one.run_id, key, self.anywhere, self.restless)
            one.watchers = [asyncio.create_task(watcher.follow(http)) for watcher in (stays, leaves)]
        for one in tasks:
            await self._end_of(http, one)

    async def _send(self, http: aiohttp.ClientSession, one: Sent) -> None:
        body = {"message": {"message_id": one.message_id, "content": one.text}}

        async def post() -> bool:
            try:
                async with http.post(f"{self.anywhere()}/api/threads/{one.thread_id}/runs", json=body, headers=self._headers) as answer:
                    if answer.status == 503:
                        return False
                    assert answer.status == 202, await answer.text()
                    one.run_id = (await answer.json())["run_id"]
                    return True
            except _LOST:
                return False

        await until(post)

    async def _end_of(self, http: aiohttp.ClientSession, one: Sent) -> None:
        await asyncio.wait_for(asyncio.gather(*one.watchers), 120)
        one.ended = True

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.person.key}"}

    async def rage(self, *, kills: int) -> None:
        """Kill busy workers, and the api processes but the first, at random moments from the first run to the last; each is replaced at once."""
        for n in range(kills):
            await self._progress(n * len(self.sent) // kills)
            await asyncio.sleep(self.dice.uniform(0.2, 1.5))
            if self.dice.random() < 0.65:
                victim = await self._busy_worker()
                self.crew.kill(victim)
                self.figures.workers += 1
                self._measuring.append(asyncio.create_task(self._measure(victim, time.monotonic())))
                self.crew.worker()
            else:
                self.crew.kill(self.crew.apis[1])
                self.figures.apis += 1
                await self.crew.api()

    async def _busy_worker(self) -> Started:
        """A worker that holds a run, if one does."""
        rows = await self.crew.fetch("SELECT lease_owner FROM runs WHERE status = 'running' ORDER BY run_id")
        holders = [holder for row in rows if (holder := self.crew.holder(row["lease_owner"])) is not None]
        return self.dice.choice(holders or self.crew.workers)

    async def _measure(self, victim: Started, at: float) -> None:
        """How long the runs of a killed worker rest until another one has them."""
        sql = "SELECT run_id, epoch FROM runs WHERE status = 'running' AND lease_owner LIKE $1"
        waiting = {row["run_id"]: row["epoch"] for row in await self.crew.fetch(sql, f"%:{self.crew.pid(victim)}:%")}
        while waiting:
            for row in await self.crew.fetch("SELECT run_id, epoch, status FROM runs WHERE run_id = ANY ($1)", list(waiting)):
                if row["epoch"] > waiting[row["run_id"]] or row["status"] in TERMINAL:
                    del waiting[row["run_id"]]
                    self.figures.resumed.append(time.monotonic() - at)
            await asyncio.sleep(0.05)

    async def _progress(self, wanted: int) -> None:
        """Wait until so many runs have ended."""

        async def so_many() -> bool:
            return self.ended >= wanted

        await until(so_many, 300)

    async def flush(self, when: int) -> None:
        """Empty Valkey when so many runs have ended."""
        await self._progress(when)
        async with aioredis.from_url(self.servers.valkey.url) as client:
            await client.flushall()

    async def settle(self) -> None:
        """Wait for what is still being measured."""
        await asyncio.gather(*self._measuring)

    # What must be true in the end -----------------------------------------------------------------------------------------

    async def check(self, http: aiohttp.ClientSession) -> None:
        """Compare every run, step, message, file and watcher."""
        for thread_id in {one.thread_id for one in self.sent}:
            mine = [one for one in self.sent if one.thread_id == thread_id]
            messages = await self._messages(http, thread_id)
            assert [m["seq"] for m in messages] == list(range(1, len(messages) + 1))
            assert [m["message_id"] for m in messages if m["role"] == "user"] == [one.message_id for one in mine]
            log = await self._file(http, thread_id, "once.log") if any("shell" in one.calls for one in mine) else ""
            for one in mine:
                await self._check_run(http, one, [m for m in messages if one.run_id == m["run_id"] or one.message_id == m["message_id"]], log)

    async def _check_run(self, http: aiohttp.ClientSession, one: Sent, messages: list[dict[str, Any]], log: str) -> None:
        run = await self._get(http, f"/api/runs/{one.run_id}")
        for watcher in one.watchers:
            seen = watcher.result()
            assert seen.status == run["status"]
            assert seen.messages == essence(messages)
        if run["losses"] >= 5:
            assert run["status"] == "failed" and "worker-lost" in run["problem"]["type"]
            return
        assert run["status"] == "completed", run
        steps = [step for step in await self._get(http, f"/api/runs/{one.run_id}/steps") if step["kind"] == "tool_call"]
        assert [step["name"] for step in steps] == one.calls
        results = {m["tool_call_id"]: m for m in messages if m["role"] == "tool"}
        assert len(results) == len(one.calls)
        assert len(messages) == 1 + len(results) + len({m["message_id"] for m in messages if m["role"] == "assistant"})
        for step in steps:
            self._check_step(one, step, results[step["call_id"]], log)
            if step["name"] == "write_file":
                assert await self._file(http, one.thread_id, f"{one.token}.txt") == f"the content of {one.token}"

    def _check_step(self, one: Sent, step: dict[str, Any], result: dict[str, Any], log: str) -> None:
        if step["effect"] != "once":
            assert step["status"] == "done", result["content"]
            return
        lines = log.splitlines().count(one.token)
        if step["status"] == "unknown":
            assert result["content"].startswith("outcome unknown")
            assert lines <= 1
        else:
            assert (step["status"], lines, step["attempts"]) == ("done", 1, 1), result["content"]

    async def _get(self, http: aiohttp.ClientSession, path: str) -> Any:
        async with http.get(self.crew.apis[0].url + path, headers=self._headers) as answer:
            assert answer.status == 200, f"{path}: {await answer.text()}"
            return await answer.json()

    async def _messages(self, http: aiohttp.ClientSession, thread_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        before = ""
        while True:
            page = await self._get(http, f"/api/threads/{thread_id}/messages?limit=200{before}")
            found = page["items"] + found
            if page["next_before_seq"] is None:
                return found
            before = f"&before_seq={page['next_before_seq']}"

    async def _file(self, http: aiohttp.ClientSession, thread_id: str, path: str) -> str:
        """A file of a workspace; a worker that was just killed is replaced first."""
        async with asyncio.timeout(30):
            while True:
                async with http.get(f"{self.crew.apis[0].url}/api/threads/{thread_id}/files/content?path={path}", headers=self._headers) as answer:
                    if answer.status == 200:
                        return await answer.text()
                    assert answer.status == 503, await answer.text()
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("runs", "threads", "kills", "lease"),
    [pytest.param(60, 12, 12, "2", id="60 runs"), pytest.param(200, 20, 20, "6", id="200 runs with the lease of production")],
)
async def test_every_run_survives_random_kills(crew: Crew, person: Person, own_servers: Servers, runs: int, threads: int, kills: int, lease: str) -> None:
    seed = int(os.environ.get("VIBE_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"again with VIBE_TEST_SEED={seed}")
    dice = random.Random(seed)
    storm = Storm(crew, person, own_servers, dice)
    await crew.crew(apis=2, workers=3, lease=lease)
    async with person.at(crew.apis[0].url) as product, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        agent = await product.agent()
        ids = [await product.thread(agent) for _ in range(threads)]
        storm.sent = [task(dice, ids[n % threads]) for n in range(runs)]
        began = time.monotonic()
        talks = [asyncio.create_task(storm.converse(http, [one for one in storm.sent if one.thread_id == id])) for id in ids]
        chaos = [asyncio.create_task(storm.rage(kills=kills)), asyncio.create_task(storm.flush(runs // 2))]
        try:
            await asyncio.gather(*talks, *chaos)
            took = time.monotonic() - began
            await storm.settle()
            await storm.check(http)
        finally:
            for left in (*talks, *chaos, *(watcher for one in storm.sent for watcher in one.watchers)):
                left.cancel()
    figures = storm.figures
    restarts = sum(one.watchers[0].result().snapshots - 1 for one in storm.sent)
    print(
        f"{runs} runs in {took:.0f} s; {figures.workers} workers and {figures.apis} apis killed; {len(figures.resumed)} runs lost their worker and rested "
        f"p50 {sorted(figures.resumed)[len(figures.resumed) // 2] if figures.resumed else 0:.1f} s, p95 {figures.p95():.1f} s; {restarts} snapshots beyond the first"
    )
    assert figures.p95() <= 10.0
