"""Postgres 18 with pgvector from the wheel: 127.0.0.1 only, scram, its own uid when started by root."""

import asyncio
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import psutil

from backend.embedded import process
from backend.embedded.directory import stored_secret, write_private
from backend.embedded.errors import CannotStart

DATABASE = "vibe"
SUPERUSER = "postgres"

# For a small machine (2 cores, a few GB); what is not named keeps Postgres's default, fsync among it.
_SETTINGS = {
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "128MB",
    "max_connections": "100",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}


def _idle_account() -> int:
    """A system account that runs nothing at the moment."""
    busy = {one.info["uids"].real for one in psutil.process_iter(["uids"]) if one.info["uids"]}
    idle = [account.pw_uid for account in pwd.getpwall() if 0 < account.pw_uid < 1000 and account.pw_uid not in busy]
    if not idle:
        raise CannotStart("Making the database as root needs a system account that runs nothing, such as `games`.")
    return idle[-1]


def _hand_over(tree: Path, uid: int) -> None:
    """Give a tree to `uid`. What is in it came from a program of ours alone, so no link leads out of it."""
    for folder, folders, files in os.walk(tree):
        for name in (".", *folders, *files):
            os.chown(Path(folder, name), uid, uid, follow_symlinks=False)


class Postgres:
    """One Postgres server on one directory. `start` may be called again after the server has died."""

    def __init__(
        self,
        room: Path,
        binaries: Path,
        log: Path,
        *,
        uid: int | None = None,
        options: Mapping[str, str] | None = None,
        say: process.Say = print,
    ) -> None:
        self._room, self._binaries, self._log, self._uid, self._say = room, binaries, log, uid, say
        self._data = room / "18"
        # The cluster's name stands in the title of each of its processes, so leftovers are known without privileges.
        self._mark = "vibe-" + hashlib.sha256(str(self._data).encode()).hexdigest()[:12]
        self._options = {**_SETTINGS, **(options or {}), "cluster_name": self._mark}
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def url(self) -> str:
        """Address of the product's database, with the superuser's password; also when another process runs the server."""
        password = stored_secret(self._room / "password", self._uid)
        port = self._port or (self._room / "port").read_text()
        return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{DATABASE}"

    async def start(self) -> str:
        """Start the server, after crash recovery if that is due, and return its URL. Raises `CannotStart`."""
        await process.end_leftovers(self._leftovers, "Postgres", self._say)
        # Nobody of this cluster is left, so the file is stale, whatever program has its pid by now.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        if not self._data.exists():
            await self._initialise()
        for _ in range(5):
            if await self._launch():
                await self._make_database()
                return self.url
        raise CannotStart(f"Postgres ended while starting; its log {self._log} ends:\n{process.tail(self._log)}")

    async def stop(self, seconds: float = 30.0) -> None:
        """End all sessions and shut down with a checkpoint; after `seconds` without one (the next start recovers)."""
        if self._process is not None:
            await process.stop(self._process, [(signal.SIGINT, seconds), (signal.SIGQUIT, 5.0)])

    def _leftovers(self) -> list[tuple[psutil.Process, signal.Signals]]:
        """Processes of this cluster: the postmaster is shut down, children whose postmaster is gone are ended."""
        found = process.with_mark("postgres", self._mark)
        postmasters = [one for one in found if one.pid == self._recorded_pid()]
        if postmasters:
            return [(one, signal.SIGINT) for one in postmasters]
        return [(one, signal.SIGQUIT) for one in found]

    def _recorded(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _recorded_pid(self) -> int | None:
        lines = self._recorded()
        return int(lines[0]) if lines and lines[0].strip().isdigit() else None

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    async def _initialise(self) -> None:
        """Make the cluster beside its place and move it there when it is whole."""
        self._say("Postgres: making a new database (once)")
        # initdb insists on a uid that has a name, which the server's own has not: it is lent one for this moment.
        lent = None if self._uid is None else _idle_account()
        draft = self._room.with_name(self._room.name + ".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        if lent is not None:
            os.chown(draft, lent, lent)
        write_private(draft / "password", stored_secret(self._room / "password", self._uid), lent)
        made = process.spawn(
            [
                self._binaries / "initdb",
                "--pgdata", draft / "data",
                "--username", SUPERUSER,
                "--pwfile", draft / "password",
                "--auth", "scram-sha-256",
                "--encoding", "UTF8",
                "--locale-provider", "builtin",
                "--builtin-locale", "C.UTF-8",
                "--locale", "C.UTF-8",
            ],
            log=self._log, env=self._environment(), uid=lent, cwd=draft,
        )  # fmt: skip
        while not await process.ended(made, 60):
            self._say("Postgres: still making the new database")
        if made.returncode != 0:
            raise CannotStart(f"initdb failed; {self._log} ends:\n{process.tail(self._log)}")
        if self._uid is not None:
            _hand_over(draft / "data", self._uid)
        (draft / "data").rename(self._data)
        shutil.rmtree(draft)

    async def _launch(self) -> bool:
        """Start the server on a free port and wait, however long recovery takes; False when it ended instead."""
        self._port = process.free_port(self._room / "port")
        options = {**self._options, "listen_addresses": "127.0.0.1", "port": str(self._port), "unix_socket_directories": ""}
        self._process = process.spawn(
            [self._binaries / "postgres", "-D", self._data, *(f"--{name}={value}" for name, value in options.items())],
            # SIGINT is Postgres's fast shutdown: it also ends cleanly when we are killed.
            log=self._log, env=self._environment(), uid=self._uid, cwd=self._room, orphaned=signal.SIGINT,
        )  # fmt: skip
        began = told = time.monotonic()
        while self._process.poll() is None:
            lines = self._recorded()
            if len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7].startswith("ready"):
                write_private(self._room / "port", str(self._port), self._uid)
                return True
            if time.monotonic() - told > 3:
                told = time.monotonic()
                self._say(f"Postgres: recovering for {told - began:.0f} s; last: {process.tail(self._log, 1)}")
            await asyncio.sleep(0.01)
        return False

    async def _make_database(self) -> None:
        connection = await asyncpg.connect(self.url.rsplit("/", 1)[0] + "/postgres")
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()
