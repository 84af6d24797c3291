"""What every sandbox driver offers, in words that fit a local namespace as well as a remote machine.

A workspace is the durable part (files); a sandbox is the live part (processes) on top of it. All paths are paths
inside the sandbox; relative ones start at `/workspace`. What comes out of a sandbox is untrusted data.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

HEAD_BYTES = 4 * 1024
TAIL_BYTES = 12 * 1024
LOG_LIMIT_BYTES = 10 * 1024 * 1024
WORKSPACE = "/workspace"

Stream = Literal["stdout", "stderr"]
Command: TypeAlias = str | Sequence[str]
OnOutput: TypeAlias = Callable[[Stream, bytes], Awaitable[None] | None]
Status = Literal["ok", "timeout", "killed", "out_of_memory", "out_of_disk"]


class SandboxError(Exception):
    """The sandbox could not do what was asked."""


class SandboxUnavailable(SandboxError):
    """No sandbox can run on this machine."""

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(f"{reason} {fix}".strip())
        self.reason = reason
        self.fix = fix


class SandboxBusy(SandboxError):
    """The workspace is open in another worker."""


class TooManySandboxes(SandboxError):
    """As many sandboxes as this worker may hold are in use; try again later."""


class SandboxDied(SandboxError):
    """The sandbox stopped while it was in use; the next use starts it again on the same workspace."""


class NotFound(SandboxError):
    """No such file, directory or process in the sandbox."""


class QuotaExceeded(SandboxError):
    """The sandbox has used up its memory, processes, disk or files."""


class Conflict(SandboxError):
    """The file is not what the caller expected it to be."""


class InvalidCall(SandboxError):
    """The sandbox cannot do this: wrong kind of file, bad pattern, too large, or not permitted."""


@dataclass(frozen=True)
class Network:
    """What the sandbox may reach. Host entries are `name`, `*.suffix` (any depth below) or either with `:port`."""

    policy: Literal["off", "allowlist", "open"] = "off"
    hosts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Limits:
    """Ceilings of one sandbox; `cpus` None means all but one, and at least one."""

    memory_mb: int = 1024
    processes: int = 256
    cpus: float | None = None
    disk_mb: int = 2048
    inodes: int = 100_000
    tmp_mb: int = 128


@dataclass(frozen=True)
class SandboxSpec:
    """One sandbox: whose workspace it works on and what it may use."""

    workspace: str
    network: Network = Network()
    limits: Limits = Limits()
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_workspace(self.workspace)


def check_workspace(workspace: str) -> str:
    """The id itself; raises ValueError unless it is letters, digits and hyphens (it becomes a directory's name)."""
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}", workspace):
        raise ValueError(f"not a workspace id: {workspace!r}")
    return workspace


@dataclass(frozen=True)
class Capabilities:
    """What a driver can do here; `notes` say in words where it is softer than it could be."""

    pty: bool = True
    background: bool = True
    network_allow_list: bool = True
    hard_memory_limit: bool = False
    hard_disk_quota: bool = False
    preview_ports: bool = False
    snapshots: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Availability:
    """Whether the driver works here; if not, why and what to do about it."""

    ok: bool
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Captured:
    """What a command wrote to one stream: its first and last bytes, and how many there were in all."""

    head: bytes = b""
    tail: bytes = b""
    size: int = 0

    @property
    def truncated(self) -> bool:
        """Whether bytes between head and tail are missing here."""
        return self.size > len(self.head) + len(self.tail)

    def text(self) -> str:
        """Head and tail as text, with the number of missing bytes between them."""
        gap = (
            f"\n[... {self.size - len(self.head) - len(self.tail)} bytes left out ...]\n".encode()
            if self.truncated
            else b""
        )
        return (self.head + gap + self.tail).decode("utf-8", "replace")


@dataclass(frozen=True)
class ExecResult:
    """How a command ended. `exit_code` is 128 + signal when a signal ended it; `log_path` is set when output was cut."""

    status: Status
    exit_code: int
    stdout: Captured
    stderr: Captured
    duration: float
    log_path: str | None = None
    log_dropped: int = 0

    @property
    def truncated(self) -> bool:
        """Whether more was written than `stdout` and `stderr` hold."""
        return self.stdout.truncated or self.stderr.truncated


@dataclass(frozen=True)
class Process:
    """A command started by `exec`, `spawn` or `pty_open`; `exit_code` is None while it runs."""

    id: str
    kind: Literal["exec", "spawn", "pty"]
    command: str
    running: bool
    exit_code: int | None
    seconds: float
    output_size: int
    log_path: str | None


@dataclass(frozen=True)
class LogChunk:
    """A piece of a process's output: bytes from `offset`; `size` is all there is so far, `running` whether more may come."""

    data: bytes
    offset: int
    size: int
    running: bool
    exit_code: int | None


@dataclass(frozen=True)
class FileInfo:
    """One entry of the file tree; `modified` is Unix time, `target` what a symlink points to."""

    path: str
    kind: Literal["file", "dir", "symlink", "other"]
    size: int
    mode: int
    modified: float
    target: str | None = None


@dataclass(frozen=True)
class Listing:
    """Entries below a directory, sorted; `truncated` when there were more than the bound."""

    entries: tuple[FileInfo, ...]
    truncated: bool


@dataclass(frozen=True)
class FileContent:
    """A range of a file; `size` and `sha256` are of the whole file (`sha256` None above 64 MB)."""

    data: bytes
    offset: int
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Match:
    """One line that matched a search, cut to 300 characters; `line` counts from 1, 0 for a match by name alone."""

    path: str
    line: int
    text: str


@dataclass(frozen=True)
class Matches:
    """What a search found; `truncated` when it stopped at its bound."""

    matches: tuple[Match, ...]
    truncated: bool


@dataclass(frozen=True)
class Metrics:
    """What a sandbox uses now: bytes of memory, processes, bytes and files on disk (None when not known)."""

    memory: int
    processes: int
    disk_used: int | None
    disk_limit: int | None
    inodes_used: int | None
    uptime: float


class Sandbox(Protocol):
    """A live box. Every call may raise SandboxDied; cancelling a call kills what it started."""

    spec: SandboxSpec
    restarted_with: tuple[str, ...]
    """Commands that were running when the box before this one stopped; empty on a first start."""

    @property
    def alive(self) -> bool:
        """False once the box has died or was closed."""

    @property
    def wanted(self) -> bool:
        """Whether another worker waits for this workspace."""

    async def exec(
        self,
        command: Command,
        *,
        cwd: str = WORKSPACE,
        env: Mapping[str, str] | None = None,
        timeout: float = 120.0,
        stdin: bytes = b"",
        on_output: OnOutput | None = None,
    ) -> ExecResult:
        """Run to the end (a str by the shell, a list as it is). `on_output` is called with each piece at once;
        while it awaits, the command is held back. At `timeout` seconds the whole tree is killed."""

    async def spawn(
        self, command: Command, *, cwd: str = WORKSPACE, env: Mapping[str, str] | None = None
    ) -> str:
        """Start in the background; returns the process id for `logs`, `send` and `kill`."""

    async def processes(self) -> list[Process]:
        """Everything started here and not forgotten yet, newest last."""

    async def logs(self, process: str, offset: int = 0, limit: int = 65536) -> LogChunk:
        """Output of a process from a byte offset on."""

    async def send(self, process: str, data: bytes, *, end: bool = False) -> None:
        """Write to the standard input of a process; `end` closes it after."""

    async def kill(self, process: str, *, grace: float = 1.0) -> None:
        """End a process and all it started: SIGTERM, and SIGKILL `grace` seconds later."""

    async def pty_open(
        self,
        command: Command,
        *,
        cols: int = 80,
        rows: int = 24,
        cwd: str = WORKSPACE,
        env: Mapping[str, str] | None = None,
        on_output: Callable[[bytes], Awaitable[None] | None],
    ) -> str:
        """Start on a terminal of its own; `on_output` gets its screen bytes. Returns the process id."""

    async def pty_write(self, process: str, data: bytes) -> None:
        """Type into a terminal."""

    async def pty_resize(self, process: str, cols: int, rows: int) -> None:
        """Change a terminal's size."""

    async def pty_close(self, process: str) -> None:
        """Hang up a terminal and end what runs on it."""

    async def read(self, path: str, offset: int = 0, length: int = 1024 * 1024) -> FileContent:
        """A range of a regular file, at most 16 MB."""

    async def write(
        self, path: str, data: bytes, *, expected_sha256: str | None = None, mode: int | None = None
    ) -> str:
        """Replace a file atomically, making its directories; returns its sha256. With `expected_sha256` only when the
        file is that now (`""`: does not exist), else Conflict."""

    async def stat(self, path: str) -> FileInfo:
        """One entry, symlinks not followed."""

    async def list(self, path: str = WORKSPACE, depth: int = 1, limit: int = 2000) -> Listing:
        """Entries below a directory, symlinks not followed."""

    async def move(self, source: str, target: str) -> None:
        """Rename a file or directory; refuses to overwrite (Conflict)."""

    async def delete(self, path: str) -> None:
        """Remove a file, or a directory with all below it; a symlink itself, never its target."""

    async def search(
        self, pattern: str, *, path: str = WORKSPACE, glob: str = "*", regex: bool = True, limit: int = 200
    ) -> Matches:
        """Lines that match in files whose name matches `glob`; an empty pattern lists the files alone."""

    def archive(self, path: str = WORKSPACE) -> AsyncIterator[bytes]:
        """A tar.gz of a file or directory, in pieces."""

    async def metrics(self) -> Metrics:
        """What the box uses now."""

    async def close(self) -> None:
        """Stop the box and everything in it; the workspace stays."""


class Driver(Protocol):
    """A way to run sandboxes."""

    name: str

    @property
    def capabilities(self) -> Capabilities:
        """What this driver can do here; complete after `check`."""

    async def check(self) -> Availability:
        """Try a real box once. Never raises for what is wrong with the machine."""

    async def open(self, spec: SandboxSpec) -> Sandbox:
        """Start a box on the workspace, making it when new. Raises SandboxUnavailable or SandboxBusy."""

    async def destroy_workspace(self, workspace: str) -> None:
        """Delete a workspace and its files for good. Raises SandboxBusy while a box is on it."""

    async def workspaces(self) -> list[str]:
        """Ids of every workspace that is kept here."""

    async def reap(self) -> list[str]:
        """Clean up after workers that died; returns the workspaces it cleaned. Called when a worker starts."""
