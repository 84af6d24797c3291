"""Shell commands in the thread's sandbox: in the foreground, in the background, and on a terminal."""

import asyncio
import time
from dataclasses import dataclass
from typing import Annotated

from backend.agent.schemas import ToolStatus
from backend.agent.tools.base import Call, Tool, ToolError, ToolResult, action
from backend.agent.tools.workspace import Workspace
from backend.sandbox.protocol import ExecResult

_STATUS = {"timeout": "The command was ended: it ran longer than its timeout.", "killed": "The command was killed.",
           "out_of_memory": "The command was killed: the sandbox has no more memory.", "out_of_disk": "The sandbox's disk is full."}  # fmt: skip

_POLL_SECONDS = 0.1


@dataclass
class ShellTool(Tool):
    """Commands in one workspace."""

    workspace: Workspace

    @action(effect="once", timeout=3700.0)
    async def shell(
        self,
        call: Call,
        command: Annotated[str, "A bash command line; it starts in /workspace."],
        timeout: Annotated[int, "Seconds until it is ended, at most 3600."] = 120,
        cwd: Annotated[str, "Folder to run in."] = "/workspace",
    ) -> ToolResult:
        """Run a command in the sandbox and wait for it. Returns its exit code and what it printed; of long output the beginning and the end,
        with the file that holds the whole. Use shell_start for servers and whatever runs on."""
        if not 1 <= timeout <= 3600:
            raise ToolError("timeout must be between 1 and 3600 seconds; use shell_start for what runs longer.")

        def show(_stream: str, data: bytes) -> None:
            call.output(data.decode("utf-8", "replace"))

        async with self.workspace.open() as sandbox:
            result = await sandbox.exec(command, cwd=cwd, timeout=float(timeout), on_output=show)
        return self.workspace.told(_result(result))

    @action(effect="once")
    async def shell_start(
        self,
        call: Call,
        command: Annotated[str, "A bash command line."],
        cwd: Annotated[str, "Folder to run in."] = "/workspace",
        terminal: Annotated[bool, "Give it a terminal, for programs that ask questions."] = False,
    ) -> ToolResult:
        """Start a command in the background and return its process id at once."""
        async with self.workspace.open() as sandbox:
            if terminal:
                process = await sandbox.pty_open(command, cwd=cwd, on_output=lambda data: call.output(data.decode("utf-8", "replace")))
            else:
                process = await sandbox.spawn(command, cwd=cwd)
        return self.workspace.told(ToolResult(f"started as process {process}"))

    @action(effect="read")
    async def shell_output(
        self,
        call: Call,
        process: Annotated[str, "Process id."],
        offset: Annotated[int, "Byte to read from; the last answer names the next."] = 0,
        wait: Annotated[int, "Seconds to wait for more while there is nothing new, at most 60."] = 5,
    ) -> ToolResult:
        """Read what a background process has printed, from a byte offset on, and whether it still runs. Waits a little for something new."""
        if not 0 <= wait <= 60 or offset < 0:
            raise ToolError("wait must be between 0 and 60 seconds, and offset not negative.")
        until = time.monotonic() + wait
        async with self.workspace.open() as sandbox:
            while True:
                chunk = await sandbox.logs(process, offset)
                if chunk.data or not chunk.running or time.monotonic() >= until:
                    break
                await asyncio.sleep(_POLL_SECONDS)
            running = next((p for p in await sandbox.processes() if p.id == process and p.running), None)
        # How long it runs is said, so that waiting for it does not look like repeating oneself.
        state = f"running for {running.seconds:.0f} s" if running else f"ended with exit code {chunk.exit_code}"
        text = chunk.data.decode("utf-8", "replace")
        return self.workspace.told(ToolResult(f"[{state}; next offset {chunk.offset + len(chunk.data)} of {chunk.size}]\n{text}", exit_code=chunk.exit_code))

    @action(effect="once")
    async def shell_input(
        self, call: Call, process: Annotated[str, "Process id."], text: Annotated[str, "What to type; end a line with \\n."]
    ) -> ToolResult:
        """Type into a background process."""
        async with self.workspace.open() as sandbox:
            kinds = {p.id: p.kind for p in await sandbox.processes()}
            write = sandbox.pty_write if kinds.get(process) == "pty" else sandbox.send
            await write(process, text.encode())
        return self.workspace.told(ToolResult("typed"))

    @action(effect="idempotent")
    async def shell_stop(self, call: Call, process: Annotated[str, "Process id."]) -> ToolResult:
        """Stop a background process and everything it started."""
        async with self.workspace.open() as sandbox:
            await sandbox.kill(process)
        return self.workspace.told(ToolResult(f"process {process} is stopped"))

    @action(effect="read")
    async def shell_processes(self, call: Call) -> ToolResult:
        """List background processes."""
        async with self.workspace.open() as sandbox:
            processes = [p for p in await sandbox.processes() if p.kind != "exec"]
        lines = [f"{p.id}  {'running' if p.running else f'exit {p.exit_code}'}  {p.command}" for p in processes]
        return self.workspace.told(ToolResult("\n".join(lines) or "no background processes"))


def _result(result: ExecResult) -> ToolResult:
    """An ended command as the model reads it. No times are in it, so that equal results are equal."""
    parts = [f"exit code {result.exit_code}"]
    if result.status != "ok":
        parts.append(_STATUS[result.status])
    if result.log_path:
        parts.append(f"The whole output is in {result.log_path}." + (f" {result.log_dropped:,} bytes beyond its limit were dropped." if result.log_dropped else ""))
    for name, captured in (("stdout", result.stdout), ("stderr", result.stderr)):
        if captured.size:
            parts.append(f"--- {name}\n{captured.text().rstrip()}")
    status: ToolStatus = "ok" if result.status == "ok" and result.exit_code == 0 else "timeout" if result.status == "timeout" else "error"
    return ToolResult("\n".join(parts), status, result.exit_code, result.truncated, result.log_path)
