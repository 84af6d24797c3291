"""Boxes by bubblewrap: one long-lived bwrap each, with our supervisor as PID 1 inside.

Started as root every box runs as a uid of its own, so that nothing inside is uid 0 on the machine; started as a plain
user it runs as that user in namespaces. Either way without capabilities, behind a system-call filter, and ended by
the kernel when this process goes: bwrap's parent-death signal and the supervisor's socket both see to it.
"""

import asyncio
import contextlib
import functools
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from backend.sandbox import interpreter, profile, seccomp
from backend.sandbox.cgroups import ControlGroups, Groups
from backend.sandbox.inside import frames
from backend.sandbox.protocol import (
    HEAD_BYTES,
    TAIL_BYTES,
    WORKSPACE,
    Availability,
    Capabilities,
    Captured,
    Command,
    ExecResult,
    FileContent,
    FileInfo,
    InvalidCall,
    Limits,
    Listing,
    LogChunk,
    Match,
    Matches,
    Metrics,
    OnOutput,
    Process,
    SandboxBusy,
    SandboxDied,
    SandboxSpec,
    SandboxUnavailable,
    Status,
)
from backend.sandbox.proxy import Decision, Proxy
from backend.sandbox.volumes import Volume, Volumes
from backend.sandbox.wire import Channel, Connection, answer, request

READ_LIMIT = 16 * 1024 * 1024
START_SECONDS = 15.0
_MINIMUM = (0, 8)
_CHECK = "check-"
OnDecision = Callable[[str, Decision], None]


@dataclass(frozen=True)
class _Started:
    """What the launcher hands over: bwrap, its PID 1 as a pidfd, our end of the socket, the proxy's listener."""

    process: "subprocess.Popen[bytes]"
    first: int
    control: socket.socket
    listener: socket.socket | None


@functools.cache
def _launcher(pid: int) -> ThreadPoolExecutor:
    """The threads that fork bwrap. Its parent-death signal fires when the *thread* that forked it ends, so these live as
    long as the process: longer than a driver, whose own executor would end with it."""
    return ThreadPoolExecutor(4, f"sandbox-launcher-{pid}")


class Bubblewrap:
    """The embedded driver. `root` holds the workspaces; `on_decision(workspace, decision)` hears of every connection."""

    name = "bubblewrap"

    def __init__(
        self,
        root: Path,
        *,
        private_targets: frozenset[str] = frozenset(),
        on_decision: OnDecision | None = None,
        loop_images: bool = True,
        control_groups: bool = True,
        binary: str = "bwrap",
        python: Path = interpreter.SYSTEM,
    ) -> None:
        self._volumes = Volumes(root, loop_images)
        self._cgroups = ControlGroups() if control_groups else ControlGroups("", "")
        self._private_targets = private_targets
        self._on_decision = on_decision
        self._binary = binary
        self._python = python
        self._checked: Availability | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What works here; `notes` name what is enforced by the supervisor's watchdog only."""
        notes = []
        if "memory" not in self._cgroups.controllers:
            notes.append("memory: no control group can be made, so a watchdog ends what grows too large")
        if not self._volumes.images:
            notes.append(f"disk: a watchdog looks at the workspace's size ({self._volumes.image_failure})")
        return Capabilities(
            hard_memory_limit="memory" in self._cgroups.controllers,
            hard_disk_quota=self._volumes.images,
            notes=tuple(notes),
        )

    async def check(self) -> Availability:
        """Start a real box once and run a command in it; the answer is remembered when it was good."""
        if self._checked is None or not self._checked.ok:
            self._checked = await self._probe()
        return self._checked

    async def open(self, spec: SandboxSpec) -> "Box":
        """Start a box. Raises SandboxUnavailable or SandboxBusy."""
        self._require_tools()
        starting = _launcher(os.getpid()).submit(self._start, spec)
        try:
            volume, groups, started = await asyncio.wrap_future(starting)
        except asyncio.CancelledError:
            if not starting.cancelled():
                starting.add_done_callback(_abandon)
            raise
        try:
            connection = await Connection.over(started.control)
            proxy = await self._door(spec, started.listener)
        except BaseException:
            _abandon(starting)
            raise
        box = Box(spec, connection, started, volume, groups, proxy)
        try:
            await box.configure(self._cgroups.controllers)
        except BaseException:
            await box.close()
            raise
        return box

    async def _door(self, spec: SandboxSpec, listener: socket.socket | None) -> Proxy | None:
        if listener is None:
            return None

        def hear(decision: Decision) -> None:
            if self._on_decision is not None:
                self._on_decision(spec.workspace, decision)

        return await Proxy.start(listener, spec.network, self._private_targets, hear)

    async def destroy_workspace(self, workspace: str) -> None:
        """Delete a workspace for good."""
        await asyncio.to_thread(self._volumes.destroy, workspace)

    async def workspaces(self) -> list[str]:
        """Ids of every workspace that is kept here."""
        return await asyncio.to_thread(self._volumes.names, "")

    async def reap(self) -> list[str]:
        """Kill, unmount and ungroup what workers that died have left."""
        return await asyncio.to_thread(self._reap)

    def _reap(self) -> list[str]:
        cleaned = []
        names = self._cgroups.names()
        for volume in self._volumes.orphans():
            if volume.workspace in names:
                groups = self._cgroups.of(volume.workspace)
                _clear(groups)
            if volume.workspace in names or os.path.ismount(volume.files):
                cleaned.append(volume.workspace)
        self._cgroups.remove_stale()
        for name in self._volumes.names(_CHECK):
            with contextlib.suppress(SandboxBusy):
                self._volumes.destroy(name)
        return cleaned

    # -- starting (in the launcher's thread)

    def _start(self, spec: SandboxSpec) -> tuple[Volume, Groups, _Started]:
        self._volumes.prepare()
        volume = self._volumes.take(spec.workspace, spec.limits)
        groups = self._cgroups.of(spec.workspace)
        try:
            _clear(groups)
            groups = self._cgroups.create(spec.workspace, spec.limits)
            return volume, groups, self._launch(spec, volume, groups)
        except BaseException as error:
            _clear(groups)
            volume.release()
            if isinstance(error, OSError):
                raise SandboxUnavailable(f"The sandbox could not be started: {error}.") from error
            raise

    def _launch(self, spec: SandboxSpec, volume: Volume, groups: Groups) -> _Started:
        python = self._interpreter()
        modules = profile.supervisor(python.outside)
        filter_ = seccomp.program(small_segments="memory" not in self._cgroups.controllers)
        args = profile.build(volume.files, spec.limits, filter_, modules, python.home)
        ours, theirs = socket.socketpair()
        info_read, info_write = os.pipe()
        errors = os.memfd_create("vibe-errors", os.MFD_CLOEXEC)
        try:
            args.add("--info-fd", str(info_write))
            options = args.descriptor(b"\0".join(option.encode() for option in args.options) + b"\0")
            door = "off" if spec.network.policy == "off" else "proxy"
            inside = [python.inside, "-I", "-S", "-B", "-c", profile.START, str(theirs.fileno()), door]
            process = subprocess.Popen(
                [*_entrance(groups, volume.uid), self._path(), "--args", str(options), "--", *inside],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={"PATH": "/usr/bin:/bin"},
                cwd="/",
                pass_fds=(*args.descriptors, theirs.fileno(), info_write),
            )
            theirs.close()
            os.close(info_write)
            try:
                return self._greet(process, ours, info_read, door == "proxy")
            except BaseException as error:
                process.kill()
                process.wait()
                ours.close()
                said = os.pread(errors, 4000, 0).decode("utf-8", "replace").strip()
                raise _explain(said or str(error)) from error
        finally:
            args.close()
            theirs.close()
            os.close(errors)
            os.close(info_read)

    def _greet(
        self, process: "subprocess.Popen[bytes]", ours: socket.socket, info: int, door: bool
    ) -> _Started:
        """Wait until the supervisor has said that it is ready."""
        ours.settimeout(START_SECONDS)
        data, descriptors, _, _ = socket.recv_fds(ours, 64, 4)
        if data != b"ready" or len(descriptors) != (1 if door else 0):
            for fd in descriptors:
                os.close(fd)
            raise ConnectionError("the supervisor did not start")
        listener = socket.socket(fileno=descriptors[0]) if door else None
        first = os.pidfd_open(json.loads(os.read(info, 65536))["child-pid"])
        ours.setblocking(False)
        return _Started(process, first, ours, listener)

    def _path(self) -> str:
        return shutil.which(self._binary) or self._binary

    # -- checking

    def _require_tools(self) -> None:
        if sys.platform != "linux":
            raise SandboxUnavailable("Sandboxes need Linux.", "Run VIBE in a Linux machine or container.")
        if platform.machine() not in seccomp.MACHINES:
            raise SandboxUnavailable(
                f"There is no system-call filter for {platform.machine()}.", "Use x86_64 or aarch64."
            )
        if shutil.which(self._binary) is None:
            raise SandboxUnavailable(
                "bubblewrap (bwrap) is not installed.",
                "Install it: apt-get install bubblewrap (dnf, pacman, apk: bubblewrap).",
            )
        if os.geteuid() == 0 and shutil.which("setpriv") is None:
            raise SandboxUnavailable("setpriv is not installed.", "Install util-linux.")

    def _interpreter(self) -> interpreter.Interpreter:
        return interpreter.find(self._python, self._volumes.root, self._volumes.as_root)

    async def _probe(self) -> Availability:
        try:
            self._require_tools()
            version = await asyncio.to_thread(_version, self._path())
            if version < _MINIMUM:
                found = ".".join(map(str, version))
                raise SandboxUnavailable(f"bubblewrap {found} is too old.", "Install version 0.8 or newer.")
            spec = SandboxSpec(f"{_CHECK}{os.getpid()}", limits=Limits(disk_mb=64, inodes=1000))
            box = await self.open(spec)
            try:
                result = await box.exec("echo ready", timeout=20)
            finally:
                await box.close()
                await self.destroy_workspace(spec.workspace)
            if result.stdout.head != b"ready\n":
                raise SandboxUnavailable("The sandbox starts but runs no command.", result.stderr.text())
        except SandboxUnavailable as error:
            return Availability(False, error.reason, error.fix)
        except SandboxDied as error:
            return Availability(False, f"The sandbox starts and stops again: {error}.")
        return Availability(True)


class Box:
    """One live box; the protocol's `Sandbox`."""

    def __init__(
        self,
        spec: SandboxSpec,
        connection: Connection,
        started: _Started,
        volume: Volume,
        groups: Groups,
        proxy: Proxy | None,
    ) -> None:
        self.spec = spec
        self.restarted_with = volume.was_running()
        self._connection = connection
        self._process = started.process
        self._first = started.first
        self._volume = volume
        self._groups = groups
        self._proxy = proxy
        self._running: dict[int, str] = {}
        self._terminals: dict[str, asyncio.Task[None]] = {}
        self._closing: asyncio.Task[None] | None = None
        self._watcher = asyncio.create_task(self._watch())

    @property
    def alive(self) -> bool:
        """False once the box has died or was closed."""
        return not self._connection.ended.is_set()

    @property
    def wanted(self) -> bool:
        """Whether another worker waits for this workspace."""
        return self._volume.wanted

    async def configure(self, controllers: frozenset[str]) -> None:
        """Tell the supervisor its limits, before anything runs."""
        limits = self.spec.limits
        hard_memory = "memory" in controllers
        await self._connection.call(
            "configure",
            processes=limits.processes,
            file_size=limits.disk_mb << 20,
            watch_memory=0 if hard_memory else limits.memory_mb << 20,
            watch_disk=0 if self._volume.hard_quota else limits.disk_mb << 20,
            watch_inodes=limits.inodes,
            env=profile.environment(self.spec.env, frames.PROXY_PORT if self._proxy else None),
        )
        self._volume.note_running([])

    # -- commands

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
        """Run to the end."""
        out, err = _Capture(), _Capture()
        before = self._groups.out_of_memory_kills()
        async with self._run("exec", command, cwd, env, timeout, stdin=bool(stdin)) as channel:
            feeding = asyncio.create_task(channel.feed(stdin)) if stdin else None
            try:
                async for kind, payload in channel.output():
                    if kind == frames.DONE:
                        return self._result(answer(payload), out, err, before)
                    (out if kind == frames.DATA else err).feed(payload)
                    if on_output is not None:
                        heard = on_output("stdout" if kind == frames.DATA else "stderr", payload)
                        if heard is not None:
                            await heard
            finally:
                if feeding is not None:
                    feeding.cancel()
                    await asyncio.gather(feeding, return_exceptions=True)
        raise SandboxDied("the sandbox has stopped")

    async def spawn(
        self, command: Command, *, cwd: str = WORKSPACE, env: Mapping[str, str] | None = None
    ) -> str:
        """Start in the background."""
        fields = _fields("spawn", command, cwd, env, 0, stdin=True)
        body, _ = await self._connection.call("run", **fields)
        process = str(body["process"])
        self._note(int(process[1:]), command)
        return process

    async def processes(self) -> list[Process]:
        """Everything started here and not forgotten yet."""
        body, _ = await self._connection.call("processes")
        return [Process(**entry) for entry in body["processes"]]

    async def logs(self, process: str, offset: int = 0, limit: int = 65536) -> LogChunk:
        """Output of a process from an offset on."""
        body, data = await self._connection.call("logs", process=process, offset=max(0, offset), limit=limit)
        return LogChunk(data, body["offset"], body["size"], body["running"], body["exit_code"])

    async def send(self, process: str, data: bytes, *, end: bool = False) -> None:
        """Write to a process's standard input."""
        for at in range(0, len(data) or 1, frames.CHUNK):
            piece = data[at : at + frames.CHUNK]
            last = at + frames.CHUNK >= len(data)
            await self._connection.call(
                "send", process=process, data=piece.decode("latin-1"), end=end and last
            )

    async def kill(self, process: str, *, grace: float = 1.0) -> None:
        """End a process and all it started."""
        await self._connection.call("kill", process=process, grace=grace)
        self._forget(int(process[1:]) if process[1:].isdigit() else 0)

    # -- terminals

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
        """Start on a terminal of its own."""
        fields = _fields("pty", command, cwd, env, 0, stdin=True) | {"cols": cols, "rows": rows}
        channel = self._connection.open()
        try:
            await self._connection.send(frames.CALL, channel.number, request("run", fields))
            kind, payload = await channel.next()
            if kind != frames.HELLO:
                answer(payload)
                raise SandboxDied("the sandbox opened no terminal")
        except BaseException:
            self._connection.drop(channel)
            raise
        process = f"p{channel.number}"
        self._note(channel.number, command)
        self._terminals[process] = asyncio.create_task(self._pump(process, channel, on_output))
        return process

    async def pty_write(self, process: str, data: bytes) -> None:
        """Type into a terminal."""
        await self.send(process, data)

    async def pty_resize(self, process: str, cols: int, rows: int) -> None:
        """Change a terminal's size."""
        await self._connection.call("resize", process=process, cols=cols, rows=rows)

    async def pty_close(self, process: str) -> None:
        """Hang up a terminal."""
        await self.kill(process, grace=0.2)

    async def _pump(
        self, process: str, channel: Channel, on_output: Callable[[bytes], Awaitable[None] | None]
    ) -> None:
        try:
            async for kind, payload in channel.output():
                if kind == frames.DATA:
                    heard = on_output(payload)
                    if heard is not None:
                        await heard
        except SandboxDied:
            return
        finally:
            self._connection.drop(channel)
            self._terminals.pop(process, None)
            if self.alive:
                self._forget(channel.number)

    # -- files

    async def read(self, path: str, offset: int = 0, length: int = 1024 * 1024) -> FileContent:
        """A range of a regular file."""
        body, data = await self._file(
            "read", path=path, offset=max(0, offset), length=min(length, READ_LIMIT)
        )
        return FileContent(data, offset, body["size"], body["sha256"])

    async def write(
        self, path: str, data: bytes, *, expected_sha256: str | None = None, mode: int | None = None
    ) -> str:
        """Replace a file atomically."""
        body, _ = await self._file("write", data, path=path, expected=expected_sha256, mode=mode)
        return str(body["sha256"])

    async def stat(self, path: str) -> FileInfo:
        """One entry, symlinks not followed."""
        body, _ = await self._file("stat", path=path)
        return FileInfo(*body["entry"])

    async def list(self, path: str = WORKSPACE, depth: int = 1, limit: int = 2000) -> Listing:
        """Entries below a directory."""
        body, data = await self._file("list", path=path, depth=depth, limit=min(limit, 20_000))
        return Listing(tuple(FileInfo(*entry) for entry in json.loads(data)), body["truncated"])

    async def move(self, source: str, target: str) -> None:
        """Rename; refuses to overwrite."""
        await self._file("move", source=source, target=target)

    async def delete(self, path: str) -> None:
        """Remove a file, or a directory with all below it."""
        await self._file("delete", path=path)

    async def search(
        self, pattern: str, *, path: str = WORKSPACE, glob: str = "*", regex: bool = True, limit: int = 200
    ) -> Matches:
        """Lines that match."""
        body, data = await self._file(
            "search", pattern=pattern, path=path, glob=glob, regex=regex, limit=min(limit, 5000)
        )
        return Matches(tuple(Match(*entry) for entry in json.loads(data)), body["truncated"])

    async def archive(self, path: str = WORKSPACE) -> AsyncIterator[bytes]:
        """A tar.gz, in pieces."""
        async with self._call(
            "file", {"name": "archive", "args": {"path": path}, "timeout": 600.0}
        ) as channel:
            await channel.feed(b"")
            said = b""
            async for kind, payload in channel.output():
                if kind == frames.DATA:
                    yield payload
                elif kind == frames.ERR:
                    said = _bounded(said + payload)
                else:
                    _file_answer(answer(payload), said)

    async def _file(self, name: str, stdin: bytes = b"", **args: Any) -> tuple[dict[str, Any], bytes]:
        """Run a file operation: (its answer, its data)."""
        async with self._call(
            "file", {"name": name, "args": args, "timeout": frames.FILE_SECONDS}
        ) as channel:
            feeding = asyncio.create_task(channel.feed(stdin))
            try:
                pieces: list[bytes] = []
                size, said = 0, b""
                async for kind, payload in channel.output():
                    if kind == frames.DATA:
                        size += len(payload)
                        if size > READ_LIMIT + frames.FRAME_LIMIT:
                            raise InvalidCall("the sandbox sent more than was asked for")
                        pieces.append(payload)
                    elif kind == frames.ERR:
                        said = _bounded(said + payload)
                    else:
                        return _file_answer(answer(payload), said), b"".join(pieces)
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
        raise SandboxDied("the sandbox has stopped")

    # -- the box itself

    async def metrics(self) -> Metrics:
        """What the box uses now."""
        body, _ = await self._connection.call("metrics")
        memory = await asyncio.to_thread(self._groups.memory)
        return Metrics(
            memory=body["memory"] if memory is None else memory,
            processes=body["processes"],
            disk_used=body["disk_used"],
            disk_limit=self.spec.limits.disk_mb << 20,
            inodes_used=body["inodes_used"],
            uptime=body["uptime"],
        )

    async def close(self) -> None:
        """Stop the box and everything in it, and wait until it is gone."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._kill()
        await self._connection.close()
        await self._watcher

    def _kill(self) -> None:
        """Kill PID 1 and with it the box; the descriptor is given up once bwrap has been collected."""
        if self._first >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)

    async def _watch(self) -> None:
        """When the box ends, however it does: collect bwrap, then give up groups, mount and lock."""
        await self._connection.ended.wait()
        self._kill()
        if self._proxy is not None:
            await self._proxy.close()
        await asyncio.to_thread(self._process.wait)
        first, self._first = self._first, -1
        os.close(first)
        await asyncio.to_thread(self._give_up)
        await asyncio.gather(*self._terminals.values(), return_exceptions=True)

    def _give_up(self) -> None:
        _clear(self._groups)
        self._volume.release()

    @contextlib.asynccontextmanager
    async def _call(self, op: str, fields: Mapping[str, Any]) -> AsyncIterator[Channel]:
        """A channel for one call; what it started is killed when we leave before its end."""
        channel = self._connection.open()
        try:
            await self._connection.send(frames.CALL, channel.number, request(op, fields))
            yield channel
        except BaseException:
            if self.alive:
                with contextlib.suppress(SandboxDied):
                    await asyncio.shield(
                        self._connection.send(frames.CALL, 0, request("cancel", {"channel": channel.number}))
                    )
            raise
        finally:
            self._connection.drop(channel)

    @contextlib.asynccontextmanager
    async def _run(
        self,
        kind: str,
        command: Command,
        cwd: str,
        env: Mapping[str, str] | None,
        timeout: float,
        *,
        stdin: bool,
    ) -> AsyncIterator[Channel]:
        async with self._call("run", _fields(kind, command, cwd, env, timeout, stdin=stdin)) as channel:
            self._note(channel.number, command)
            try:
                yield channel
            finally:
                if self.alive:
                    self._forget(channel.number)

    def _note(self, number: int, command: Command) -> None:
        self._running[number] = command if isinstance(command, str) else " ".join(command)
        self._volume.note_running(list(self._running.values()))

    def _forget(self, number: int) -> None:
        if self._running.pop(number, None) is not None:
            self._volume.note_running(list(self._running.values()))

    def _result(
        self, body: dict[str, Any], out: "_Capture", err: "_Capture", kills_before: int
    ) -> ExecResult:
        code = int(body["exit"])
        reason = body["reason"]
        status: Status = "ok"
        if reason in ("timeout", "killed", "out_of_memory", "out_of_disk"):
            status = reason
        elif code == 128 + signal.SIGKILL and self._groups.out_of_memory_kills() > kills_before:
            status = "out_of_memory"
        return ExecResult(
            status=status,
            exit_code=code,
            stdout=out.captured(),
            stderr=err.captured(),
            duration=float(body["seconds"]),
            log_path=body["log"],
            log_dropped=int(body["dropped"]) if body["log"] else 0,
        )


class _Capture:
    """First and last bytes of a stream, however long it is."""

    def __init__(self) -> None:
        self.size = 0
        self._head = bytearray()
        self._tail = bytearray()

    def feed(self, data: bytes) -> None:
        self.size += len(data)
        room = HEAD_BYTES - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data[-TAIL_BYTES:]
        if len(self._tail) > 4 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    def captured(self) -> Captured:
        return Captured(bytes(self._head), bytes(self._tail[-TAIL_BYTES:]), self.size)


def _fields(
    kind: Literal["exec", "spawn", "pty"] | str,
    command: Command,
    cwd: str,
    env: Mapping[str, str] | None,
    timeout: float,
    *,
    stdin: bool,
) -> dict[str, Any]:
    plain = command if isinstance(command, str) else list(command)
    if not plain:
        raise InvalidCall("there is no command")
    text = plain if isinstance(plain, str) else "".join(plain)
    if "\0" in text or len(text) > 120_000:
        raise InvalidCall(
            "a command holds no NUL and at most 120,000 characters; write longer scripts to a file"
        )
    return {
        "kind": kind,
        "command": plain,
        "cwd": cwd,
        "env": dict(env or {}),
        "timeout": timeout,
        "stdin": stdin,
    }


def _file_answer(ended: dict[str, Any], said: bytes) -> dict[str, Any]:
    if ended["reason"] == "timeout":
        raise InvalidCall("the file operation took too long")
    if ended["exit"] != 0:
        raise InvalidCall("the file operation was stopped, perhaps for want of memory")
    return answer(said)


def _bounded(said: bytes) -> bytes:
    if len(said) > frames.FRAME_LIMIT:
        raise InvalidCall("the sandbox sent more than was asked for")
    return said


def _entrance(groups: Groups, uid: int | None) -> list[str]:
    """The command in front of bwrap: enter the groups, then drop to the box's own uid."""
    drop = []
    if uid is not None:
        drop = [
            shutil.which("setpriv") or "setpriv",
            "--reuid",
            str(uid),
            "--regid",
            str(uid),
            "--clear-groups",
            "--",
        ]
    files = groups.entrances
    if not files:
        return drop
    script = (
        'n=$1; shift; while [ $n -gt 0 ]; do echo $$ >"$1" || exit 90; shift; n=$((n-1)); done; exec "$@"'
    )
    return ["/bin/sh", "-c", script, "sh", str(len(files)), *files, *drop]


def _version(path: str) -> tuple[int, ...]:
    said = subprocess.run(
        [path, "--version"], capture_output=True, check=False, text=True, env={}, timeout=10
    ).stdout
    return tuple(int(part) for part in re.findall(r"\d+", said)[:2])


def _explain(said: str) -> SandboxUnavailable:
    """What bwrap said, with what to do about it."""
    fix = "See the sandbox section of the documentation."
    if (
        "namespace" in said
        or "uid map" in said
        or "Operation not permitted" in said
        or "Permission denied" in said
    ):
        fix = (
            "Allow user namespaces: sysctl user.max_user_namespaces=15000, on Debian also kernel.unprivileged_userns_clone=1, on "
            "Ubuntu kernel.apparmor_restrict_unprivileged_userns=0; in a container add --security-opt seccomp=unconfined."
        )
    elif "Unknown option" in said:
        fix = "Install bubblewrap 0.8 or newer."
    return SandboxUnavailable(f"bubblewrap could not start a sandbox: {said[:500]}.", fix)


def _abandon(starting: "Future[tuple[Volume, Groups, _Started]]") -> None:
    """Undo a start that nobody waits for any more."""
    if starting.exception() is None:
        volume, groups, started = starting.result()
        started.control.close()
        if started.listener is not None:
            started.listener.close()
        started.process.kill()
        started.process.wait()
        os.close(started.first)
        _clear(groups)
        volume.release()


def _clear(groups: Groups) -> None:
    """Kill what is left in the groups and remove them; the kernel needs a moment to let go."""
    groups.kill()
    until = time.monotonic() + 2.5
    while not groups.remove() and time.monotonic() < until:
        time.sleep(0.005)
        groups.kill()
