"""`vibe up`: everything on one machine, one address, one Ctrl-C."""

import asyncio
import os
import signal
import socket
import time

import aiohttp

from backend.cli import people
from backend.cli.errors import Failure
from backend.cli.listen import bind, bind_near, url_of
from backend.cli.place import Place
from backend.cli.processes import Child, Supervisor, table
from backend.embedded.process import Say
from backend.kit.disk import Disk
from backend.kit.problems import DiskFull
from backend.kit.settings import Settings


class CannotServe(Failure):
    """The product may not or cannot be started this way."""


class Up:
    """One start of the product, from the lock on its data directory to the last process's end."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self._settings, self._say = settings, say
        self._place = Place(settings, say)
        self._supervisor = Supervisor(say)
        self._stop = asyncio.Event()
        self._dsn = self._redis_dsn = ""

    async def run(self, *, host: str | None, port: int | None) -> None:
        """Start everything, print the address, and stop everything when a signal comes."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        self._place.create()
        self._place.directory.hold()
        began = time.monotonic()
        try:
            with self._bind(host, port) as bound:
                starting = asyncio.create_task(self._start(bound, began))
                stopped = asyncio.create_task(self._stop.wait())
                await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
                if not starting.done():  # a signal came first
                    starting.cancel()
                elif (error := starting.exception()) is not None:
                    stopped.cancel()
                    raise error
                await asyncio.wait((starting, stopped))
        finally:
            await self._supervisor.stop()
            self._place.directory.release()
            self._say("stopped")

    async def _start(self, bound: socket.socket, began: float) -> None:
        await self._servers()
        await self._prepare(bound)
        await self._processes(bound)
        await self._announce(bound, time.monotonic() - began)

    def _bind(self, host: str | None, port: int | None) -> socket.socket:
        """The listening socket: a port that was asked for, or the usual one or the next that is free."""
        where = host or self._settings.vibe_host
        if port is not None:
            return bind(where, port)
        usual = self._settings.vibe_port
        bound = bind_near(where, usual) if usual else bind(where, 0)
        if usual and (chosen := bound.getsockname()[1]) != usual:
            self._say(f"port {usual} is in use by another program; taking {chosen}")
        return bound

    async def _servers(self) -> None:
        """Postgres and Valkey, each embedded when no address is set."""
        given, given_redis = self._settings.database_url, self._settings.redis_dsn
        if given is None:
            postgres = self._place.postgres()
            await self._supervisor.start("postgres", postgres)
            self._dsn = postgres.url
        else:
            self._dsn = given.get_secret_value()
        if given_redis is None:
            valkey = self._place.valkey()
            await self._supervisor.start("valkey", valkey)
            self._redis_dsn = valkey.url
        else:
            self._redis_dsn = given_redis
        self._say(f"data in {self._place.directory.path}; {_which('Postgres', given)}, {_which('Valkey', given_redis)}")

    async def _prepare(self, bound: socket.socket) -> None:
        """Migrate; and let nobody but this machine in while there is no owner."""
        applied = await self._place.migrate(self._dsn)
        if applied:
            self._say(f"migrations applied: {', '.join(applied)}")
        await people.open_to_others(self._place.app_dsn(self._dsn), bound.getsockname()[0])
        try:
            Disk(self._place.directory.path, self._settings.vibe_min_free_mb).check()
        except DiskFull as full:
            self._say(f"{full.title()}: {full.detail}")

    async def _processes(self, bound: socket.socket) -> None:
        """The api and worker processes."""
        host, port = bound.getsockname()[:2]

        def environment() -> dict[str, str]:
            return {
                **os.environ,
                "DATABASE_URL": self._place.app_dsn(self._dsn),
                "REDIS_URL": self._redis_dsn,
                "VIBE_DATA_DIR": str(self._place.directory.path),
                "VIBE_HOST": host,
                "VIBE_PORT": str(port),
            }

        bound.listen(512)
        for row in table(self._settings, bound.fileno()):
            for number in range(1, row.count + 1):
                log = self._place.directory.path / "logs" / f"{row.name}-{number}.log"
                await self._supervisor.start(f"{row.name} {number}", Child(row, environment, log))
        await self._ready(url_of(bound))

    async def _ready(self, url: str) -> None:
        """Wait until the API answers. Raises `CannotServe` when a process cannot stay up."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http:
            while True:
                if (why := self._supervisor.failing()) is not None:
                    raise CannotServe(why)
                try:
                    async with http.get(f"{url}/health/live") as answer:
                        if answer.status == 200:
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.05)

    async def _announce(self, bound: socket.socket, seconds: float) -> None:
        url = url_of(bound)
        self._place.directory.announce(url)
        token = await people.setup_token(self._place.app_dsn(self._dsn))
        self._say(f"started in {seconds:.1f} s; logs in {self._place.directory.path / 'logs'}; Ctrl-C stops everything")
        self._say("")
        if token is None:
            self._say(f"  VIBE AI is at {self._settings.vibe_public_url or url}")
        else:
            self._say(f"  Create the owner at {url}/setup?token={token}")
        self._say("")


def _which(name: str, given: object) -> str:
    return f"{name} as set" if given else f"{name} embedded"


