"""The live sandboxes of one worker: one per workspace, started at first use, stopped when idle, workspaces kept."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field

from backend.sandbox.protocol import (
    Availability,
    Driver,
    Sandbox,
    SandboxBusy,
    SandboxSpec,
    SandboxUnavailable,
    TooManySandboxes,
)

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.1  # how soon a box that nobody uses is given to a worker that asks for its workspace
_PATIENCE = 8.0  # seconds that we wait for a workspace which another worker holds


@dataclass(frozen=True)
class Use:
    """A sandbox in use. `restarted_with`: commands that were running when the box before this one stopped, given to the
    first user of the new box only, so that a model can be told."""

    sandbox: Sandbox
    restarted_with: tuple[str, ...] = ()


@dataclass
class _Slot:
    """One workspace's place: its box, if any, who uses it, and a lock around starting and stopping."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    sandbox: Sandbox | None = None
    users: int = 0
    last_used: float = 0.0
    untold: tuple[str, ...] = ()


class SandboxManager:
    """Hands out sandboxes by workspace. `idle` is in seconds; `most` bounds the live ones of this process."""

    def __init__(self, driver: Driver, *, idle: float = 600.0, most: int = 30) -> None:
        self._driver = driver
        self._idle = idle
        self._most = most
        self._slots: dict[str, _Slot] = {}
        self._opening = 0
        self._closed = False
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def driver(self) -> Driver:
        """The driver underneath."""
        return self._driver

    @property
    def live(self) -> list[str]:
        """Workspaces that have a live box here."""
        return [
            workspace
            for workspace, slot in self._slots.items()
            if slot.sandbox is not None and slot.sandbox.alive
        ]

    async def start(self) -> Availability:
        """Clean up after dead workers and try the driver. Called once when the worker starts."""
        for workspace in await self._driver.reap():
            _log.info("cleaned up the sandbox of a dead worker", extra={"workspace": workspace})
        availability = await self._driver.check()
        if not availability.ok:
            _log.warning("sandbox unavailable: %s %s", availability.reason, availability.fix)
        self._sweeper = asyncio.create_task(self._sweep())
        return availability

    @contextlib.asynccontextmanager
    async def use(self, spec: SandboxSpec, *, any_spec: bool = False) -> AsyncIterator[Use]:
        """The workspace's box, started when there is none or when it runs under another spec and nobody uses it;
        with `any_spec` a live one is taken as it is. It is not stopped as idle while in use. Raises SandboxUnavailable, SandboxBusy or TooManySandboxes."""
        if self._closed:
            raise SandboxUnavailable("The worker is shutting down.")
        slot = self._slots.setdefault(spec.workspace, _Slot())
        slot.users += 1
        try:
            async with slot.lock:
                sandbox = await self._ready(slot, spec, any_spec)
                told, slot.untold = slot.untold, ()
            yield Use(sandbox, told)
        finally:
            slot.users -= 1
            slot.last_used = time.monotonic()
            if slot.sandbox is None and slot.users == 0 and not slot.lock.locked():
                self._slots.pop(spec.workspace, None)

    async def stop(self, workspace: str) -> None:
        """Stop a workspace's box; its files stay."""
        slot = self._slots.get(workspace)
        if slot is not None:
            async with slot.lock:
                await self._stop(slot)

    async def destroy(self, workspace: str) -> None:
        """Stop a workspace's box and delete its files."""
        await self.stop(workspace)
        await self._driver.destroy_workspace(workspace)

    async def tidy(self, gone: Callable[[list[str]], Awaitable[Collection[str]]]) -> list[str]:
        """Delete the workspaces that `gone` names among those kept here; one that another worker uses stays until the next time."""
        deleted = []
        for workspace in await gone(await self._driver.workspaces()):
            with contextlib.suppress(SandboxBusy):
                await self.destroy(workspace)
                deleted.append(workspace)
        return deleted

    async def close(self) -> None:
        """Stop everything; nothing can be started afterwards."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await asyncio.gather(*(self.stop(workspace) for workspace in list(self._slots)))

    async def _ready(self, slot: _Slot, spec: SandboxSpec, any_spec: bool) -> Sandbox:
        if self._closed:
            raise SandboxUnavailable("The worker is shutting down.")
        current = slot.sandbox
        if current is not None and current.alive and (any_spec or current.spec == spec or slot.users > 1):
            return current
        await self._stop(slot)
        await self._make_room()
        slot.sandbox = await self._open(spec)
        slot.untold = slot.sandbox.restarted_with
        return slot.sandbox

    async def _open(self, spec: SandboxSpec) -> Sandbox:
        """A new box. Another worker that still keeps one on this workspace lets go of it as soon as nobody uses it there."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return await self._driver.open(spec)
            except SandboxBusy:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_LOOK_SECONDS / 2)

    async def _stop(self, slot: _Slot) -> None:
        sandbox, slot.sandbox = slot.sandbox, None
        if sandbox is not None:
            await sandbox.close()

    async def _make_room(self) -> None:
        """Stop the box that has been idle longest when there are as many as there may be."""
        while len(self.live) + self._opening >= self._most:
            free = [
                slot
                for slot in self._slots.values()
                if slot.users == 0 and not slot.lock.locked() and slot.sandbox
            ]
            if not free:
                raise TooManySandboxes(f"{self._most} sandboxes are in use on this worker")
            longest = min(free, key=lambda slot: slot.last_used)
            async with longest.lock:
                if longest.users == 0:
                    await self._stop(longest)

    async def _sweep(self) -> None:
        looked = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_SECONDS if self._slots else 1.0)
            await self._stop_unused(lambda slot: slot.sandbox is not None and slot.sandbox.wanted)
            if time.monotonic() - looked >= min(15.0, self._idle / 4):
                looked = time.monotonic()
                await self.stop_idle()

    async def stop_idle(self) -> None:
        """Stop every box that nobody has used for the idle time."""
        now = time.monotonic()
        await self._stop_unused(lambda slot: now - slot.last_used >= self._idle)

    async def _stop_unused(self, which: Callable[[_Slot], bool]) -> None:
        for workspace, slot in list(self._slots.items()):
            if slot.users == 0 and which(slot) and not slot.lock.locked():
                async with slot.lock:
                    if slot.users == 0:
                        await self._stop(slot)
                        self._slots.pop(workspace, None)
