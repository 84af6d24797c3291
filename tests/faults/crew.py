"""Servers and processes of one test's own: any of them may be killed, stopped or frozen."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import psutil

from backend.cli.place import app_password
from backend.embedded import process
from backend.embedded.directory import POSTGRES_UID, VALKEY_UID, DataDirectory, dropped_uid
from backend.embedded.postgres import Postgres
from backend.embedded.programs import postgres_binaries, valkey_binary
from backend.embedded.valkey import Valkey
from backend.kit.db import Row, app_dsn
from tests.client import DEADLINE
from tests.conftest import SECRET_KEY
from tests.product import ROOT, Started


async def until(what: Callable[[], Awaitable[Any]], deadline: float = DEADLINE, pause: float = 0.03) -> Any:
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + deadline
    while not (answer := await what()):
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(pause)
    return answer


class Servers:
    """A Postgres and a Valkey that a test may stop and start again on the same ports."""

    def __init__(self, directory: DataDirectory, cluster: Path) -> None:
        """`cluster` holds a database that was never used, to copy."""
        self.directory, logs = directory, directory.room("logs")
        for room in ("postgres", "programs"):
            if (cluster / room).exists():
                shutil.rmtree(directory.path / room, ignore_errors=True)
                os.system(f"cp -a '{cluster / room}' '{directory.path / room}'")
        self._postgres_room = directory.room("postgres", dropped_uid(POSTGRES_UID))
        self.postgres = Postgres(
            self._postgres_room, postgres_binaries(directory.programs()), logs / "postgres.log", uid=dropped_uid(POSTGRES_UID),
            options={"fsync": "off"}, say=lambda _: None,
        )  # fmt: skip
        self.valkey = Valkey(
            directory.room("valkey", dropped_uid(VALKEY_UID)), valkey_binary(directory.programs()), logs / "valkey.log",
            uid=dropped_uid(VALKEY_UID), say=lambda _: None,
        )  # fmt: skip

    async def start(self) -> tuple[str, str]:
        """Start both; their addresses."""
        return await self.postgres.start(), await self.valkey.start()

    async def stop(self) -> None:
        """End both."""
        await self.postgres.stop()
        await self.valkey.stop()

    def freeze_valkey(self, sent: signal.Signals) -> None:
        """Stop it where it stands, or let it go on."""
        for one in process.with_mark("valkey-server", str(self.directory.path)):
            one.send_signal(sent)

    async def break_postgres(self) -> None:
        """An immediate shutdown: every connection is cut, and the next start recovers."""
        pid = int((self._postgres_room / "18" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        await until(self._postgres_is_gone)

    async def _postgres_is_gone(self) -> bool:
        return not self.postgres.running


class Crew:
    """The product's processes over one pair of servers."""

    admin: "asyncpg.Pool[Any]"  # of the test that runs, as the database's owner

    def __init__(self, servers: Servers) -> None:
        self.apis: list[Started] = []
        self.workers: list[Started] = []
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": app_dsn(servers.postgres.url, app_password(SECRET_KEY)),
            "REDIS_URL": servers.valkey.url,
            "VIBE_DATA_DIR": str(servers.directory.path),
            "VIBE_SECRET_KEY": SECRET_KEY,
            "VIBE_LEASE_SECONDS": "2",
            "VIBE_RATE_LIMIT_PER_MINUTE": "0",
        }
        self._logs = servers.directory.room("logs")
        self._started: list[Started] = []

    async def api(self) -> Started:
        """One more api process, ready."""
        port = process.free_port()
        api = self._start("api", "--port", str(port))
        url = f"http://127.0.0.1:{port}"
        await until(lambda: self._lives(api, url))
        api.url = url
        self.apis.append(api)
        return api

    def worker(self) -> Started:
        """One more worker process; `ready` waits for it."""
        worker = self._start("worker")
        self.workers.append(worker)
        return worker

    async def ready(self, worker: Started) -> None:
        """Wait until a worker takes runs."""

        async def said() -> bool:
            assert worker.child is not None and worker.child.poll() is None, process.tail(worker.log, 30)
            return b"worker is ready" in worker.log.read_bytes()

        await until(said, pause=0.05)

    async def crew(self, apis: int, workers: int, *, lease: str = "2") -> None:
        """Exactly so many of each, ready: those that are left of the test before, and new ones. `lease` is in seconds."""
        fit = lease == self.environment["VIBE_LEASE_SECONDS"]
        self.environment["VIBE_LEASE_SECONDS"] = lease
        for kind, wanted in ((self.apis, apis), (self.workers, workers)):
            for one in kind[wanted if fit else 0 :]:
                self.kill(one)
        while len(self.workers) < workers:
            self.worker()
        await asyncio.gather(*(self.api() for _ in range(apis - len(self.apis))), *(self.ready(worker) for worker in self.workers))

    def kill(self, victim: Started) -> None:
        """`kill -9`."""
        victim.kill()
        for kind in (self.apis, self.workers):
            if victim in kind:
                kind.remove(victim)

    async def leave(self, one: Started) -> int:
        """SIGTERM, and wait for its end; its exit code."""
        assert one.child is not None
        one.child.send_signal(signal.SIGTERM)
        await until(lambda: self._ended(one), 20)
        for kind in (self.apis, self.workers):
            if one in kind:
                kind.remove(one)
        return int(one.child.returncode)

    def wake(self) -> None:
        """Let go on whatever was stopped."""
        for one in (*self.apis, *self.workers):
            os.kill(self.pid(one), signal.SIGCONT)

    def end(self) -> None:
        """End all of them."""
        for one in self._started:
            one.kill()

    def pid(self, one: Started) -> int:
        """A process's id."""
        assert one.child is not None
        return one.child.pid

    def holder(self, owner: str | None) -> Started | None:
        """The worker that a lease names."""
        return next((worker for worker in self.workers if owner and f":{self.pid(worker)}:" in owner), None)

    async def fetch(self, sql: str, *values: Any) -> list[Row]:
        """Rows, as the database's owner sees them."""
        rows: list[Row] = await self.admin.fetch(sql, *values)
        return rows

    async def run(self, run_id: str) -> Row:
        """A row of runs."""
        return (await self.fetch("SELECT * FROM runs WHERE run_id = $1", run_id))[0]

    async def until_run(self, run_id: str, condition: str, deadline: float = DEADLINE) -> Row:
        """The run's row when `condition` (SQL) holds for it."""
        rows = await until(lambda: self.fetch(f"SELECT * FROM runs WHERE run_id = $1 AND {condition}", run_id), deadline)
        row: Row = rows[0]
        return row

    async def until_step(self, run_id: str, condition: str, deadline: float = DEADLINE) -> Row:
        """The newest step of a run for which `condition` (SQL) holds, when there is one."""
        sql = f"SELECT * FROM run_steps WHERE run_id = $1 AND {condition} ORDER BY number DESC"
        row: Row = (await until(lambda: self.fetch(sql, run_id), deadline))[0]
        return row

    async def holder_of(self, run_id: str, besides: Started | None = None) -> Started:
        """The worker that holds a run, when one (other than `besides`) does."""

        async def held() -> Started | None:
            found = self.holder((await self.run(run_id))["lease_owner"])
            return found if found is not besides else None

        found: Started = await until(held, pause=0.01)
        return found

    def _start(self, *argv: str) -> Started:
        started = Started(list(argv), self.environment, self._logs / f"{argv[0]}-{len(self._started)}.log")
        self._started.append(started)
        started.start()
        return started

    async def _ended(self, one: Started) -> bool:
        return one.child is not None and one.child.poll() is not None

    async def _lives(self, api: Started, url: str) -> bool:
        assert api.child is not None and api.child.poll() is None, process.tail(api.log, 30)
        try:
            async with aiohttp.ClientSession() as http, http.get(f"{url}/health/live") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


def cpu_seconds(one: Started) -> float:
    """Processor time that a process has used."""
    assert one.child is not None
    times = psutil.Process(one.child.pid).cpu_times()
    return float(times.user + times.system)
