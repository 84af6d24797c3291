"""Processes of the product as tests start and end them."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import psutil

from backend.cli.place import Place
from backend.embedded import process
from backend.kit.settings import Settings

ROOT = Path(__file__).parents[1]


@dataclass
class Started:
    """A process of the product, started by a test."""

    argv: list[str]
    environment: dict[str, str]
    log: Path
    url: str = ""
    child: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it; an api process is waited for until it answers."""
        self.child = process.spawn(
            [sys.executable, "-m", "backend.cli", *self.argv], env=self.environment, log=self.log, cwd=ROOT
        )
        while self.url and not _answers(f"{self.url}/health/live"):
            if self.child.poll() is not None:
                raise RuntimeError(f"{self.argv} ended at once:\n{process.tail(self.log, 30)}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in order (SIGTERM), and by force after fifteen seconds."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """`kill -9`."""
        self._end(signal.SIGKILL)

    def _end(self, sent: signal.Signals) -> None:
        if self.child is None or self.child.poll() is not None:
            return
        self.child.send_signal(sent)
        try:
            self.child.wait(15)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


class Spawn:
    """Starts processes of the product."""

    def __init__(self, environment: dict[str, str], logs: Path) -> None:
        self._environment, self._logs = environment, logs
        self._started: list[Started] = []

    def api(self, **environment: str) -> Started:
        """An api process on a free port, ready; `url` is its address."""
        port = process.free_port()
        return self._start(["api", "--port", str(port)], environment, f"http://127.0.0.1:{port}")

    def worker(self, **environment: str) -> Started:
        """A worker process."""
        return self._start(["worker"], environment, "")

    def end(self) -> None:
        """End all of them."""
        for one in self._started:
            one.kill()

    def _start(self, argv: list[str], environment: dict[str, str], url: str) -> Started:
        log = self._logs / f"{argv[0]}-{len(self._started)}.log"
        started = Started(argv, {**self._environment, **environment}, log, url)
        self._started.append(started)
        started.start()
        return started


class Product:
    """`vibe up` on a directory of its own; what it says is in `lines`."""

    def __init__(self, path: Path, *options: str, **environment: str) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.path = path
        self.environment = {
            **kept,
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "VIBE_DATA_DIR": str(path),
            "VIBE_PORT": str(process.free_port()),
            **environment,
        }
        self._options = options
        self.lines: list[str] = []
        self.child: subprocess.Popen[str] | None = None

    def vibe(self, *arguments: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
        """Another `vibe` command in the same place."""
        return subprocess.run(
            [sys.executable, "-m", "backend.cli", *arguments],
            env={**self.environment, **environment}, input=stdin, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT,
        )  # fmt: skip

    def start(self) -> str:
        """Start it and read what it says until it is up; the printed address."""
        self.lines = []
        self.child = subprocess.Popen(
            [sys.executable, "-m", "backend.cli", "up", *self._options],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            preexec_fn=process.with_parent(signal.SIGTERM),  # noqa: PLW1509 (it makes two system calls and takes no lock)
        )  # fmt: skip
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.lines.append(line.rstrip())
            if found := re.search(r"(?:is at|owner at) (http\S+)", line):
                return found[1]
        raise RuntimeError("vibe up ended:\n" + "\n".join(self.lines))

    def refused(self) -> str:
        """Start it where it must not start; what it says."""
        done = self.vibe("up", *self._options)
        assert done.returncode == 1, done.stdout
        return done.stderr

    def stop(self) -> int:
        """SIGTERM; reads the rest of what it says. The exit code."""
        assert self.child is not None and self.child.stdout is not None
        self.child.send_signal(signal.SIGTERM)
        self.lines += [line.rstrip() for line in self.child.stdout]
        return self.child.wait(60)

    def kill_everything(self) -> None:
        """`kill -9` of the supervisor and of every process it has started, at the same moment."""
        assert self.child is not None and self.child.stdout is not None
        master = psutil.Process(self.child.pid)
        end([master, *master.children(recursive=True)])
        self.child.stdout.close()
        self.child.wait()

    def close(self) -> None:
        """End whatever is left of it."""
        if self.child is not None and self.child.poll() is None:
            self.kill_everything()
        if self.child is not None and self.child.stdout is not None:
            self.child.stdout.close()

    def processes(self, name: str) -> list[psutil.Process]:
        """Running children that were started as `vibe <name>`, or whose program has that name."""
        assert self.child is not None
        found = []
        for one in psutil.Process(self.child.pid).children():
            with contextlib.suppress(psutil.Error):
                words = one.cmdline()
                if name in words or (words and words[0].endswith(f"/{name}")):
                    found.append(one)
        return found


def end(processes: list[psutil.Process]) -> None:
    """`kill -9`, and wait for their end."""
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(processes, timeout=10)


def belonging(path: Path) -> list[psutil.Process]:
    """Processes whose working directory or command line lies in `path`."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = " ".join(one.cmdline())
            if str(path) in words or one.cwd().startswith(str(path)):
                found.append(one)
    return [one for one in found if one.pid != os.getpid()]


def rows(path: Path) -> dict[str, list[str]]:
    """Every row of every table, as text."""

    async def read() -> dict[str, list[str]]:
        place = Place(Settings(_env_file=None, vibe_data_dir=path), say=lambda _: None)
        async with place.database() as dsn:
            connection = await asyncpg.connect(dsn)
            names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
            found = {}
            for (name,) in names:
                found[name] = sorted(row[0] for row in await connection.fetch(f"SELECT t::text FROM {name} t"))
            await connection.close()
            return found

    return asyncio.run(read())
