"""A thread's sandbox as its tools see it: opened when first used, with the network its agent may use."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from backend.agent.config import NETWORK, ActionPermission, AgentConfig
from backend.agent.tools.base import ToolError, ToolResult, ToolUnavailable
from backend.sandbox.protocol import (
    Network,
    Sandbox,
    SandboxDied,
    SandboxError,
    SandboxSpec,
    SandboxUnavailable,
)
from backend.sandbox.service import SandboxManager


@dataclass
class Workspace:
    """The sandbox of one thread. `manager` is None where no sandbox works, with the reason."""

    manager: SandboxManager | None
    spec: SandboxSpec
    reason: str = ""
    restarted_with: tuple[str, ...] = ()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Sandbox]:
        """The live sandbox; its errors become what the model is told."""
        if self.manager is None:
            raise ToolUnavailable(f"sandbox_unavailable: {self.reason}")
        try:
            async with self.manager.use(self.spec) as use:
                self.restarted_with = self.restarted_with or use.restarted_with
                yield use.sandbox
        except SandboxUnavailable as error:
            raise ToolUnavailable(f"sandbox_unavailable: {error}") from None
        except SandboxDied:
            raise ToolError("The sandbox stopped while it was used. Files are kept; call again to start it anew.") from None
        except SandboxError as error:
            raise ToolError(f"{type(error).__name__}: {error}") from None

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
