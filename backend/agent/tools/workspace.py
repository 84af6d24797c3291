"""A thread's sandbox as its tools see it: opened when first used, with the network its agent may use."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from backend.agent.config import NETWORK, ActionPermission, AgentConfig
from backend.agent.tools.base import ToolError, ToolResult, ToolUnavailable
from backend.sandbox.protocol import (
    WORKSPACE,
    Network,
    NotFound,
    Sandbox,
    SandboxDied,
    SandboxError,
    SandboxSpec,
    SandboxUnavailable,
)
from backend.sandbox.service import SandboxManager

log = logging.getLogger(__name__)


@dataclass
class Workspace:
    """The sandbox of one thread. `manager` is None where no sandbox works, with the reason. `brought` are files that are put into it before anybody looks:
    where each belongs, and where its bytes are."""

    manager: SandboxManager | None
    spec: SandboxSpec
    reason: str = ""
    restarted_with: tuple[str, ...] = ()
    brought: list[tuple[str, Path]] = field(default_factory=list)
    _bringing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Sandbox]:
        """The live sandbox; its errors become what the model is told."""
        if self.manager is None:
            raise ToolUnavailable(f"sandbox_unavailable: {self.reason}")
        try:
            async with self.manager.use(self.spec) as use:
                self.restarted_with = self.restarted_with or use.restarted_with
                if self.brought:
                    await self._bring(use.sandbox)
                yield use.sandbox
        except SandboxUnavailable as error:
            raise ToolUnavailable(f"sandbox_unavailable: {error}") from None
        except SandboxDied:
            raise ToolError("The sandbox stopped while it was used. Files are kept; call again to start it anew.") from None
        except SandboxError as error:
            raise ToolError(f"{type(error).__name__}: {error}") from None

    async def _bring(self, sandbox: Sandbox) -> None:
        """Put the files there, once; one that is there already stays as it is."""
        async with self._bringing:
            while self.brought:
                path, source = self.brought.pop(0)
                place = f"{WORKSPACE}/{path}"
                try:
                    await sandbox.stat(place)
                    continue
                except NotFound:
                    pass
                try:
                    data = await asyncio.to_thread(source.read_bytes)
                except OSError as error:
                    log.warning("an attachment is not in the data directory", extra={"path": str(source), "error": str(error)})
                    continue
                await sandbox.write(place, data)

    def told(self, result: ToolResult) -> ToolResult:
        """The result, and once after a restart what was running before it."""
        lost, self.restarted_with = self.restarted_with, ()
        if not lost:
            return result
        running = "; ".join(lost)
        note = f"[The sandbox was restarted on the same files. These were running and are not any more: {running}]\n"
        return ToolResult(note + result.content, result.status, result.exit_code, result.truncated, result.log_path, result.artifacts)


def network_of(config: AgentConfig) -> Network:
    """`permissions.network` as the sandbox's network: allow is open, anything else off but for the hosts that rules allow."""
    permission = config.permissions.get(NETWORK, "deny")
    if not isinstance(permission, ActionPermission):
        return Network("open") if permission == "allow" else Network("off")
    if permission.default == "allow":
        return Network("open")
    hosts = frozenset(rule.when["host"] for rule in permission.rules if rule.decision == "allow" and "host" in rule.when)
    return Network("allowlist", hosts) if hosts else Network("off")
