"""The runs of one worker: claimed by lease, kept by heartbeat, found by sweep, handed over in order when the worker leaves."""

import asyncio
import contextlib
import functools
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from backend.agent.config import AgentConfig
from backend.agent.context import history_from
from backend.agent.events import event
from backend.agent.inference import service as inference
from backend.agent.inference.credentials import open_all
from backend.agent.inference.registry import Model, Models
from backend.agent.interrupts import HandOver, Interrupts, Stopped, TimedOut, WaitsForPerson
from backend.agent.run import AgentRunner, RunFailed
from backend.agent.runs import repository
from backend.agent.stream import CONTROL_CHANNEL, RunStream, StreamWriter
from backend.agent.thread import repository as thread_rows
from backend.agent.thread.attached import have_files, with_files
from backend.agent.thread.manager import LeaseLost, ThreadManager
from backend.agent.tools.base import Tool
from backend.agent.tools.sb_files_tool import FilesTool
from backend.agent.tools.sb_shell_tool import ShellTool
from backend.agent.tools.workspace import Workspace, network_of
from backend.agent.turn import Turn
from backend.agent.views import approval_view, message_view, run_view, step_view
from backend.kit import clock
from backend.kit import log as logs
from backend.kit.db import Database, DatabaseUnavailable, enqueue
from backend.kit.problems import Problem
from backend.kit.redis import LOST
from backend.kit.seal import Sealer
from backend.kit.settings import Settings
from backend.sandbox.protocol import SandboxSpec
from backend.sandbox.service import SandboxManager
from backend.services.attachments.blobs import Blobs

log = logging.getLogger(__name__)
_MOST_LOSSES = 5
_SWEEP_SECONDS = 2.0
_SWEEP_RUNS = 64
_AGAIN_SECONDS = 0.25  # between heartbeats while the database is away
_HEADSTART_SECONDS = 1.0  # that living workers have to keep their leases when the database is back, before anybody takes an expired one
TASK = "agent.run"


class WorkerLost(Problem):
    """The run lost its worker too often"""


@dataclass
class Live:
    """A run that this worker holds."""

    epoch: int
    interrupts: Interrupts
    stream: RunStream | None = None


class RunExecutor:
    """Holds up to `vibe_max_runs_per_worker` runs on one event loop."""

    def __init__(
        self, worker: str, settings: Settings, database: Database, redis: "Redis", writer: StreamWriter, models: Models, sealer: Sealer,
        sandboxes: SandboxManager | None, sandbox_reason: str = "",
    ) -> None:  # fmt: skip
        self.worker = worker
        self._settings = settings
        self._database = database
        self._redis = redis
        self._writer = writer
        self._models = models
        self._sealer = sealer
        self._sandboxes = sandboxes
        self._sandbox_reason = sandbox_reason
        self._lease = timedelta(seconds=settings.vibe_lease_seconds)
        self._live: dict[UUID, Live] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._claiming = 0
        self._poked = asyncio.Event()
        self._draining = False
        self._behind = False  # whether more was due than could be claimed
        self._away = False  # whether the database did not answer when it was asked last

    # Claiming ---------------------------------------------------------------------------------------------------------

    async def wake(self, run_id: UUID) -> None:
        """A run may be due. While others wait for room, the sweep says whose turn it is."""
        if self._behind:
            self.poke()
        else:
            await self.claim(run_id)

    async def claim(self, run_id: UUID, *, to_end: bool = False) -> bool:
        """Take a run if it is due and there is room, or if it is only `to_end`. What is not taken now the sweep finds later."""
        if self._draining or (self._room <= 0 and not to_end):
            self._behind = True
            return False
        self._claiming += 1
        taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._spawn(self._take(run_id, taken))
        return await taken

    async def _take(self, run_id: UUID, taken: "asyncio.Future[bool]") -> None:
        """Claim a run and run it, in one task: a worker that leaves waits for both."""
        try:
            claimed = await repository.claim(self._database, run_id, self.worker, self._lease, self._settings.vibe_max_runs_per_account)
        except Exception as error:
            if not taken.done():
                taken.set_exception(error)
            return
        finally:
            self._claiming -= 1  # from here to its place in `_live` nothing is waited for
        if not taken.done():
            taken.set_result(claimed is not None)
        if claimed is None:
            return
        if (older := self._live.get(run_id)) is not None:
            older.interrupts.set(LeaseLost())
        live = self._live[run_id] = Live(claimed["epoch"], Interrupts())
        if self._draining:
            live.interrupts.set(HandOver())
        await self._run(live, claimed)

    async def stop(self, run_id: UUID) -> None:
        """A run is to stop: tell the worker that holds it, or claim it if it waits, to end it."""
        if (live := self._live.get(run_id)) is not None:
            live.interrupts.set(Stopped())
            return
        with contextlib.suppress(*LOST):
            await self._redis.publish(CONTROL_CHANNEL, f"stop {run_id}")
        await self.claim(run_id, to_end=True)

    @property
    def _room(self) -> int:
        """How many more runs may be taken."""
        return self._settings.vibe_max_runs_per_worker - len(self._live) - self._claiming

    async def reconnected(self) -> None:
        """Redis is back, perhaps empty: write what is watched anew, and look for work whose wake-up was lost."""
        for live in self._live.values():
            if live.stream is not None:
                live.stream.reopen()
        self.poke()

    def poke(self) -> None:
        """Something may be due: sweep soon."""
        self._poked.set()

    async def sweep_forever(self) -> None:
        """Claim what is due or orphaned, every two seconds and soon after a run has ended."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_SECONDS):
                    await self._poked.wait()
                    await asyncio.sleep(0.02)
            self._poked.clear()
            with self._database_may_be_away("sweep"):
                if self._away:
                    await self._database.ping()
                    await asyncio.sleep(_HEADSTART_SECONDS)
                    self._away = False
                await self._sweep()

    async def _sweep(self) -> None:
        if self._room <= 0 or self._draining:
            return
        most = min(self._room, _SWEEP_RUNS)
        async with self._database.transaction(None) as session:
            due = await repository.due(session, most)
        # What is live here and ran out while the database was away, the next heartbeat keeps.
        claimed = [await self.claim(run_id) for run_id in due if run_id not in self._live]
        self._behind = len(due) == most or not all(claimed)
        if len(due) == _SWEEP_RUNS and any(claimed):
            self.poke()

    # Keeping ----------------------------------------------------------------------------------------------------------

    async def beat_forever(self) -> None:
        """Extend the leases of all live runs four times in a lease's life; learn which were lost and which are to stop."""
        usual = pause = self._settings.vibe_lease_seconds / 4
        while True:
            await asyncio.sleep(pause)
            pause = min(usual, _AGAIN_SECONDS)
            with self._database_may_be_away("heartbeat"):
                if self._live:
                    await self._beat()
                pause = usual

    async def _beat(self) -> None:
        held = [(run_id, live.epoch) for run_id, live in self._live.items()]
        async with self._database.transaction(None) as session:
            kept = await repository.extend(session, self.worker, held, self._lease)
        for run_id, epoch in held:
            live = self._live.get(run_id)
            if live is None or live.epoch != epoch:
                continue
            if run_id not in kept:
                live.interrupts.set(LeaseLost())
            elif kept[run_id]:
                live.interrupts.set(Stopped())

    def control(self, message: bytes) -> None:
        """A word from an API process: `stop <run>` or `resync <run>`."""
        word, _, id = message.decode().partition(" ")
        live = self._live.get(UUID(id))
        if live is None:
            return
        if word == "stop":
            live.interrupts.set(Stopped())
        elif word == "resync" and live.stream is not None:
            live.stream.reopen()

    async def tidy_forever(self) -> None:
        """Delete workspaces whose thread was deleted a week ago, soon after the start and then every hour."""
        while self._sandboxes is not None:
            await asyncio.sleep(self._settings.vibe_tidy_seconds)
            with self._database_may_be_away("tidying"):
                for workspace in await self._sandboxes.tidy(self._gone):
                    log.info("deleted the workspace of a deleted thread", extra={"workspace": workspace})
        await asyncio.Event().wait()

    async def _gone(self, workspaces: list[str]) -> list[str]:
        async with self._database.transaction(None) as session:
            return [str(thread_id) for thread_id in await thread_rows.gone_threads(session, _thread_ids(workspaces))]

    async def drain(self, seconds: float = 5.0) -> None:
        """Leave in order: interrupt every run, give the leases back, and let others claim them at once."""
        self._draining = True
        for live in self._live.values():
            live.interrupts.set(HandOver())
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        with self._database_may_be_away("hand-over"):
            async with self._database.transaction(None) as session:
                released = await repository.release(session, self.worker)
                for run_id in released:
                    enqueue(session, TASK, run_id=run_id)

    @contextlib.contextmanager
    def _database_may_be_away(self, what: str) -> Iterator[None]:
        try:
            yield
        except DatabaseUnavailable as error:
            if not self._away:
                log.warning("the database does not answer", extra={"during": what, "error": str(error)})
            self._away = True

    # Running ----------------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, live: Live, claimed: Mapping[str, Any]) -> None:
        run_id: UUID = claimed["run_id"]
        logs.run_id.set(str(run_id))
        try:
            await self._turn(live, claimed)
        except (HandOver, LeaseLost, WaitsForPerson):
            log.info("a run was let go")
        except DatabaseUnavailable:
            log.warning("a run was let go: the database does not answer")
        except Exception:
            log.exception("a run could not be begun")
            await self._give_up(claimed)
        finally:
            if self._live.get(run_id) is live:
                del self._live[run_id]
            if self._behind:
                self.poke()

    async def _turn(self, live: Live, claimed: Mapping[str, Any]) -> None:
        """Load a run, and run it from where its rows say it is."""
        threads = ThreadManager(claimed["thread_id"], self._database, claimed["account_id"], claimed["run_id"], claimed["epoch"])
        run, history = await threads.load(lambda row: history_from(_config(row), row["thread_tokens"]), claimed)
        if have_files(history):
            async with self._database.transaction(claimed["account_id"]) as session:
                history = await with_files(session, history)
        config = _config(run)
        get_model = self._resolver(run)
        steps, approvals = await threads.journal() if run["epoch"] > 1 else ([], [])
        state = {
            "run": run_view(run) | {"status": "running"}, "messages": [message_view(row) for row in history if row["run_id"] == run["run_id"] or row["message_id"] == run["input_message_id"]],
            "steps": [step_view(step) for step in steps], "approvals": [approval_view(approval) for approval in approvals],
        }  # fmt: skip
        live.stream = RunStream(self._writer, run["run_id"], run["epoch"], state)
        if run["losses"] >= _MOST_LOSSES:
            live.interrupts.set(WorkerLost(f"Its worker was lost {run['losses']} times; perhaps something it does ends the worker."))
        if run["epoch"] == 1:
            live.stream.emit(event("run.started", run_id=run["run_id"], at=run["started_at"] or clock.now()))
        if run["stop_requested_at"] is not None:
            live.interrupts.set(Stopped())
        left = config.limits.max_seconds - (run["worked_seconds"] or 0.0)
        said = f"The run worked for {config.limits.max_seconds} s, as long as its agent allows."
        deadline = asyncio.get_running_loop().call_later(max(0.0, left), live.interrupts.set, TimedOut(said))
        try:
            name = run["model"] or config.model.full_name or run["default_model"] or self._settings.vibe_default_model or ""
            turn = Turn(
                run, config, thread_manager=threads, stream=live.stream, interrupts=live.interrupts, history=history, steps=steps, approvals=approvals
            )
            runner = AgentRunner(run["agent_id"], run["thread_id"], name, self._tools(config, run["thread_id"], self._brought(run, history)), turn=turn, get_model=get_model)
            async for _ in runner.run(""):
                pass
        finally:
            deadline.cancel()
            if threads.next_run is not None:
                self._spawn(self._claim_next(threads.next_run))

    async def _claim_next(self, run_id: UUID) -> None:
        """The thread is free: its next run may begin."""
        with self._database_may_be_away("claim"):
            await self.wake(run_id)

    def _resolver(self, run: Mapping[str, Any]) -> Callable[[str], Model]:
        """How this run's models are found: with its account's keys and prices."""

        @functools.cache
        def get_model(name: str) -> Model:
            own = open_all(self._sealer, run["account_id"], run["credentials"])
            return inference.ready(self._models, name, own, run["prices"] or {})

        return get_model

    def _brought(self, run: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[tuple[str, Path]]:
        """The files of the message that a run answers: where each belongs in the workspace, and where its bytes are."""
        blobs = Blobs(self._settings.vibe_data_dir)
        files = [file for row in history if row["message_id"] == run["input_message_id"] for file in row.get("attachments") or ()]
        return [(file["path"], blobs.path(file["sha256"])) for file in files]

    def _tools(self, config: AgentConfig, thread_id: UUID, brought: list[tuple[str, Path]]) -> list[Tool]:
        spec = SandboxSpec(str(thread_id), network=network_of(config))
        workspace = Workspace(self._sandboxes, spec, self._sandbox_reason, brought=brought)
        known: dict[str, Callable[[], Tool]] = {"code_execution": lambda: ShellTool(workspace), "file_operations": lambda: FilesTool(workspace)}
        return [known[name]() for name in config.tools if name in known]

    async def _give_up(self, claimed: Mapping[str, Any]) -> None:
        """A run that cannot even be begun ends with the reason, instead of being tried for ever."""
        threads = ThreadManager(claimed["thread_id"], self._database, claimed["account_id"], claimed["run_id"], claimed["epoch"])
        with contextlib.suppress(LeaseLost, DatabaseUnavailable):
            await threads.save_results([], end="failed", problem=RunFailed("It could not be begun.").body(str(claimed["run_id"])))


_configs: OrderedDict[UUID, AgentConfig] = OrderedDict()


def _config(run: Mapping[str, Any]) -> AgentConfig:
    """The configuration of a run's version; versions never change, so they are kept."""
    version: UUID = run["version_id"]
    config = _configs.get(version)
    if config is None:
        config = _configs[version] = AgentConfig.model_validate(run["config"])
        if len(_configs) > 1024:
            _configs.popitem(last=False)
    return config


def _thread_ids(workspaces: list[str]) -> list[UUID]:
    """Ids of threads among the names of workspaces; others are not ours to look at."""
    found = []
    for name in workspaces:
        with contextlib.suppress(ValueError):
            found.append(UUID(name))
    return found
