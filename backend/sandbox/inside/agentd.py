"""The supervisor of a sandbox: its PID 1, one thread.

It starts commands, carries their bytes, keeps their logs and reaps everything. It has no more rights than what it
runs, and the host trusts nothing that it says. When the host's socket closes it ends, and the kernel ends the box.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from backend.sandbox.inside import files
from backend.sandbox.inside.child import Child
from backend.sandbox.inside.frames import (
    CALL,
    CHUNK,
    CREDIT,
    DATA,
    DONE,
    EOF,
    ERR,
    FRAME_LIMIT,
    HEADER,
    HELLO,
    PROXY_PORT,
    WORKSPACE,
    Problem,
)
from backend.sandbox.inside.processes import exact_memory, exit_code, tree, usage

FORGET_AFTER = 64
GRACE = 0.2
RESERVED_PROCESSES = 16
COOKIE = "VIBE_PROCESS"
PR_SET_DUMPABLE = 4
ALL_DESCRIPTORS = 1 << 20

Call = dict[str, Any]
Pipe = tuple[int, int]


class Supervisor:
    """The event loop of PID 1. Its `do_` methods are the calls that the host can make."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.inbox = bytearray()
        self.children: dict[int, Child] = {}
        self.by_pid: dict[int, Child] = {}
        self.by_fd: dict[int, Child] = {}
        self.poll = select.epoll()
        self.shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
        self.born = time.monotonic()
        self.watchdog: Watchdog | None = None

    # -- wire

    def send(self, kind: int, channel: int, payload: bytes = b"") -> None:
        head = HEADER.pack(len(payload), kind, channel)
        sent = self.control.sendmsg([head, payload])
        if sent < HEADER.size + len(payload):
            self.control.sendall((head + payload)[sent:])

    def answer(self, channel: int, body: Call) -> None:
        self.send(DONE, channel, json.dumps(body).encode())

    def serve(self) -> None:
        """Until the host hangs up."""
        wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        control = self.control.fileno()
        self.poll.register(control, select.EPOLLIN)
        self.poll.register(wake, select.EPOLLIN)
        while True:
            for fd, _ in self.poll.poll(self.wait_seconds()):
                if fd == control:
                    if not self.receive():
                        return
                elif fd == wake:
                    os.read(wake, 4096)
                elif fd in self.by_fd:
                    child = self.by_fd[fd]
                    if fd == child.stdin:
                        self.feed(child)
                    else:
                        self.drain(child, fd)
            self.reap()
            self.on_time()

    def receive(self) -> bool:
        """Take what the host sent; False when it hung up."""
        try:
            data = self.control.recv(256 * 1024, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        self.inbox += data
        at = 0
        while len(self.inbox) - at >= HEADER.size:
            size, kind, channel = HEADER.unpack_from(self.inbox, at)
            if len(self.inbox) - at - HEADER.size < size:
                break
            at += HEADER.size
            self.on_frame(kind, channel, bytes(self.inbox[at : at + size]))
            at += size
        del self.inbox[:at]
        return bool(data)

    def on_frame(self, kind: int, channel: int, payload: bytes) -> None:
        child = self.children.get(channel)
        if kind == CALL:
            call = json.loads(payload)
            try:
                getattr(self, "do_" + call["op"])(channel, call)
            except Problem as problem:
                self.answer(channel, {"error": problem.code, "text": str(problem)})
            except OSError as error:
                self.answer(channel, files.problem_of(error))
            except Exception as error:  # the edge: arguments that no program can have must not end PID 1
                self.answer(channel, {"error": "invalid", "text": f"{type(error).__name__}: {error}"})
        elif child is None:
            return
        elif kind == CREDIT:
            child.credit += int.from_bytes(payload, "big")
            if child.paused and child.credit > 0:
                child.paused = False
                for fd in child.outputs:
                    self.poll.register(fd, select.EPOLLIN)
        elif kind == DATA:
            self.give(child, payload)
        elif kind == EOF:
            child.stdin_ends = True
            self.feed(child)

    # -- starting

    def do_configure(self, channel: int, call: Call) -> None:
        """The first call: limits for all that runs here, and its environment."""
        _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        processes = call["processes"] + RESERVED_PROCESSES
        if hard != resource.RLIM_INFINITY:
            processes = min(processes, hard)
        descriptors = min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        limits = [
            (resource.RLIMIT_NPROC, processes),
            (
                resource.RLIMIT_CORE,
                1,
            ),  # unlike 0 it also keeps the machine's crash handler from being started
            (resource.RLIMIT_FSIZE, call["file_size"]),
            (resource.RLIMIT_NOFILE, descriptors),
        ]
        if call["watch_memory"]:
            limits.append((resource.RLIMIT_DATA, call["watch_memory"]))
        for kind, most in limits:
            resource.setrlimit(kind, (most, most))
        if call["watch_memory"] or call["watch_disk"]:
            self.watchdog = Watchdog(self, call["watch_memory"], call["watch_disk"], call["watch_inodes"])
        os.environ.clear()
        os.environ.update(call["env"])
        self.answer(channel, {})

    def do_run(self, channel: int, call: Call) -> None:
        """Start a command: `kind` exec, spawn or pty."""
        command = call["command"]
        argv = [self.shell, "-c", command] if isinstance(command, str) else command
        child = Child(channel, call["kind"], command if isinstance(command, str) else " ".join(command))
        env = {**os.environ, **call["env"], COOKIE: child.name}
        try:
            os.chdir(os.path.join(WORKSPACE, call["cwd"]))
        except OSError as error:
            raise Problem("not_found", f"working directory: {error.strerror}: {call['cwd']}") from None
        try:
            if child.kind == "pty":
                self.start_on_terminal(child, argv, env, call["cols"], call["rows"])
            else:
                self.start_on_pipes(child, argv, env)
        except FileNotFoundError:
            raise Problem("not_found", f"command not found: {argv[0]}") from None
        finally:
            os.chdir("/")
        restrain(child.pid)
        self.adopt(child, call["timeout"])
        if not call["stdin"]:
            child.stdin_ends = True
            self.feed(child)
        if child.kind == "spawn":
            self.answer(channel, {"process": child.name})
        elif child.kind == "pty":
            self.send(HELLO, channel)

    def start_on_pipes(self, child: Child, argv: list[str], env: dict[str, str]) -> None:
        with three_pipes() as (stdin, stdout, stderr):
            actions = [
                (os.POSIX_SPAWN_DUP2, fd, number)
                for number, fd in enumerate((stdin[0], stdout[1], stderr[1]))
            ]
            child.pid = start(argv, env, actions)
            child.stdin, child.outputs = os.dup(stdin[1]), {os.dup(stdout[0]): DATA, os.dup(stderr[0]): ERR}

    def start_on_terminal(
        self, child: Child, argv: list[str], env: dict[str, str], cols: int, rows: int
    ) -> None:
        master, slave = os.openpty()
        try:
            resize(master, cols, rows)
            # The first terminal that a new session opens becomes its controlling one.
            opened = (os.POSIX_SPAWN_OPEN, 0, os.ttyname(slave), os.O_RDWR, 0)
            child.pid = start(argv, env, [opened, (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)])
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        child.stdin, child.outputs = os.dup(master), {master: DATA}

    def do_file(self, channel: int, call: Call) -> None:
        """A file operation in a child of its own; its answer comes on standard error."""
        child = Child(channel, "file", call["name"])
        with three_pipes() as (stdin, stdout, stderr):
            child.pid = os.fork()
            if child.pid == 0:
                work_on_files(call, (stdin[0], stdout[1], stderr[1]))
            child.stdin, child.outputs = os.dup(stdin[1]), {os.dup(stdout[0]): DATA, os.dup(stderr[0]): ERR}
        self.adopt(child, call["timeout"])

    def adopt(self, child: Child, timeout: float) -> None:
        for fd in (child.stdin, *child.outputs):
            os.set_blocking(fd, False)
            self.by_fd[fd] = child
        for fd in child.outputs:
            self.poll.register(fd, select.EPOLLIN)
        if timeout:
            child.deadline = child.started + timeout
        self.children[child.channel] = child
        self.by_pid[child.pid] = child

    # -- bytes

    def give(self, child: Child, payload: bytes) -> None:
        if child.stdin < 0 or child.stdin_ends:
            self.send(CREDIT, child.channel, len(payload).to_bytes(4, "big"))
            return
        child.pending.append(payload)
        self.feed(child)

    def feed(self, child: Child) -> None:
        """Write what is pending to the child's standard input, as far as it takes it."""
        while child.stdin >= 0 and child.pending:
            data = child.pending[0]
            try:
                count = os.write(child.stdin, data)
            except BlockingIOError:
                with contextlib.suppress(FileExistsError):
                    self.poll.register(child.stdin, select.EPOLLOUT)
                return
            except OSError:  # the child no longer reads
                rest = sum(map(len, child.pending))
                self.send(CREDIT, child.channel, rest.to_bytes(4, "big"))
                self.close_stdin(child)
                return
            self.send(CREDIT, child.channel, count.to_bytes(4, "big"))
            child.pending[:1] = [data[count:]] if count < len(data) else []
        if child.stdin >= 0:
            with contextlib.suppress(FileNotFoundError):
                self.poll.unregister(child.stdin)
            if child.stdin_ends and child.kind != "pty":
                self.close_stdin(child)

    def close_stdin(self, child: Child) -> None:
        child.pending.clear()
        if child.stdin >= 0:
            with contextlib.suppress(FileNotFoundError):
                self.poll.unregister(child.stdin)
            del self.by_fd[child.stdin]
            os.close(child.stdin)
            child.stdin = -1

    def drain(self, child: Child, fd: int) -> None:
        """Take what a child wrote: into its log, and to the host as far as it has granted."""
        if child.paused:  # an event of the same round
            return
        forwards = child.forwards and not child.reported
        try:
            data = os.read(fd, min(CHUNK, child.credit) if forwards else CHUNK)
        except BlockingIOError:
            return
        except OSError:  # a terminal whose last user has gone
            data = b""
        if not data:
            self.close_output(child, fd)
            return
        if fd in child.owed:
            child.owed[fd] -= len(data)
        if child.kind != "file":
            child.log.feed(data)
        if forwards:
            child.credit -= len(data)
            self.send(child.outputs[fd], child.channel, data)
            if child.credit <= 0:
                child.paused = True
                for other in child.outputs:
                    self.poll.unregister(other)

    def close_output(self, child: Child, fd: int) -> None:
        self.poll.unregister(fd)
        del self.by_fd[fd], child.outputs[fd]
        child.owed.pop(fd, None)
        os.close(fd)
        if not child.outputs:
            child.log.close()

    # -- ending

    def reap(self) -> None:
        """Collect every ended process, ours and orphans alike."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.watchdog is not None and pid == self.watchdog.counter:
                self.watchdog.counted()
            child = self.by_pid.pop(pid, None)
            if child is not None:
                child.status = status
                child.seconds = time.monotonic() - child.started
                child.finish_at = time.monotonic() + GRACE
                child.owed = {fd: unread(fd) for fd in child.outputs}
                self.close_stdin(child)

    def wait_seconds(self) -> float:
        times = [t for child in self.children.values() for t in child.times()]
        if self.watchdog is not None:
            times.append(self.watchdog.next)
        return max(0.0, min(times) - time.monotonic()) if times else -1.0

    def on_time(self) -> None:
        now = time.monotonic()
        for child in list(self.children.values()):
            if child.status is None:
                if child.deadline is not None and now >= child.deadline:
                    self.end(child, "timeout", 1.0)
                elif child.kill_at is not None and now >= child.kill_at:
                    child.kill_at = None
                    kill_tree(child, signal.SIGKILL)
            elif not child.reported and (not child.outputs or now >= child.finish_at):
                # What it wrote before it ended is still owed; a daemon that holds the pipe open is not waited for.
                child.finish_at = now + GRACE
                if not child.outputs or (not child.paused and all(left <= 0 for left in child.owed.values())):
                    self.report(child)
        if self.watchdog is not None and now >= self.watchdog.next:
            self.watchdog.look(now)

    def end(self, child: Child, reason: str, grace: float) -> None:
        child.deadline = None
        child.reason = child.reason or reason
        kill_tree(child, signal.SIGTERM if grace > 0 else signal.SIGKILL)
        child.kill_at = time.monotonic() + grace if grace > 0 else None

    def report(self, child: Child) -> None:
        child.reported = True
        if child.reason is not None:
            kill_tree(child, signal.SIGKILL)
        if child.kind != "spawn":
            body = {
                "exit": exit_code(child.status),
                "reason": child.reason,
                "seconds": child.seconds,
                "log": child.log.path,
                "dropped": child.log.size - child.log.kept,
            }
            self.answer(child.channel, body)
        ended = [c for c in self.children.values() if c.reported and not c.outputs]
        for old in [c for c in ended if c.kind == "file"] + [c for c in ended if c.kind != "file"][
            :-FORGET_AFTER
        ]:
            del self.children[old.channel]

    # -- the other calls

    def find(self, call: Call) -> Child:
        for child in self.children.values():
            if child.kind != "file" and child.name == call["process"]:
                return child
        raise Problem("not_found", f"no such process: {call['process']}")

    def do_processes(self, channel: int, call: Call) -> None:
        shown = [describe(child) for child in self.children.values() if child.kind != "file"]
        self.answer(channel, {"processes": shown})

    def do_logs(self, channel: int, call: Call) -> None:
        child = self.find(call)
        if not child.forwards:  # what waits in its pipes belongs to the answer
            for fd in list(child.outputs):
                self.drain(child, fd)
        offset, data = child.log.read(call["offset"], min(call["limit"], FRAME_LIMIT // 2))
        self.send(DATA, channel, data)
        state = {"running": child.status is None, "exit_code": exit_code(child.status)}
        self.answer(channel, {"offset": offset, "size": child.log.size, **state})

    def do_send(self, channel: int, call: Call) -> None:
        child = self.find(call)
        if child.stdin < 0 or child.stdin_ends:
            raise Problem("invalid", "its standard input is closed")
        if sum(map(len, child.pending)) > FRAME_LIMIT:
            raise Problem("invalid", "it does not read its standard input; 1 MB is already waiting")
        child.pending.append(call["data"].encode("latin-1"))
        child.stdin_ends = call["end"]
        self.feed(child)
        self.answer(channel, {})

    def do_kill(self, channel: int, call: Call) -> None:
        child = self.find(call)
        if child.status is None:
            self.end(child, "killed", call["grace"])
        else:
            kill_tree(child, signal.SIGKILL)
        self.answer(channel, {})

    def do_cancel(self, channel: int, call: Call) -> None:
        """Kill what runs on a channel, at once; nobody listens there any more."""
        child = self.children.get(call["channel"])
        if child is not None:
            child.forwards = False
            if child.paused:
                child.paused = False
                for fd in child.outputs:
                    self.poll.register(fd, select.EPOLLIN)
            self.end(child, "killed", 0)

    def do_resize(self, channel: int, call: Call) -> None:
        child = self.find(call)
        if child.kind != "pty" or child.stdin < 0:
            raise Problem("invalid", "not a running terminal")
        resize(child.stdin, call["cols"], call["rows"])
        self.answer(channel, {})

    def do_metrics(self, channel: int, call: Call) -> None:
        memory, count, _ = usage()
        if self.watchdog is not None and self.watchdog.disk_limit:
            disk, inodes = self.watchdog.disk or (None, None)
        else:
            space = os.statvfs(WORKSPACE)
            disk, inodes = (space.f_blocks - space.f_bfree) * space.f_frsize, space.f_files - space.f_ffree
        uptime = time.monotonic() - self.born
        body = {
            "memory": memory,
            "processes": count,
            "disk_used": disk,
            "inodes_used": inodes,
            "uptime": uptime,
        }
        self.answer(channel, body)


class Watchdog:
    """Ends what grows too large, where the kernel sets no hard limit. Limits of 0 are not watched."""

    def __init__(self, supervisor: Supervisor, memory_limit: int, disk_limit: int, inode_limit: int) -> None:
        self.supervisor = supervisor
        self.memory_limit = memory_limit
        self.disk_limit = disk_limit
        self.inode_limit = inode_limit
        self.next = time.monotonic()
        self.disk: tuple[int, int] | None = None
        self.counter = 0
        self._pipe = -1
        self._count_at = 0.0
        self._began = 0.0

    def look(self, now: float) -> None:
        """One round; soon again while something runs."""
        self.next = now + (0.2 if self.supervisor.by_pid else 2.0)
        if self.memory_limit:
            memory, _, largest = usage()
            if memory > self.memory_limit and largest and exact_memory() > self.memory_limit:
                for child in self.supervisor.by_pid.values():
                    if largest in tree(child.pid, cookie_of(child)):
                        child.reason = child.reason or "out_of_memory"
                with contextlib.suppress(ProcessLookupError):
                    os.kill(largest, signal.SIGKILL)
                self.next = now + 0.02
        if self.disk_limit and not self.counter and now >= self._count_at:
            self._count(now)

    def _count(self, now: float) -> None:
        read, write = os.pipe2(os.O_CLOEXEC)
        self.counter = os.fork()
        if self.counter == 0:
            try:
                os.write(write, json.dumps(files.disk_usage()).encode())
            finally:
                os._exit(0)
        os.close(write)
        self._pipe, self._began = read, now

    def counted(self) -> None:
        """The counting process has ended."""
        data = os.read(self._pipe, 4096)
        os.close(self._pipe)
        self.counter = 0
        now = time.monotonic()
        self._count_at = now + max(1.0, 5 * (now - self._began))
        if not data:
            return
        before, self.disk = self.disk, tuple(json.loads(data))
        over = self.disk[0] > self.disk_limit or self.disk[1] > self.inode_limit
        grew = before is None or self.disk[0] > before[0] or self.disk[1] > before[1]
        if over and grew:
            # Everything that runs is stopped; a later command may clean up, as long as the workspace does not grow.
            for child in self.supervisor.by_pid.values():
                child.reason = child.reason or "out_of_disk"
            os.kill(-1, signal.SIGKILL)


@contextlib.contextmanager
def three_pipes() -> Iterator[tuple[Pipe, Pipe, Pipe]]:
    """(reading, writing) for the three standard streams; all six ends are closed after."""
    ends: list[int] = []
    try:
        for _ in range(3):
            ends += os.pipe2(os.O_CLOEXEC)
        yield (ends[0], ends[1]), (ends[2], ends[3]), (ends[4], ends[5])
    finally:
        for fd in ends:
            os.close(fd)


def start(argv: list[str], env: dict[str, str], actions: list[Any]) -> int:
    """Start a command in a session of its own, with the signals as a program expects them."""
    defaults = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD]
    return os.posix_spawnp(
        argv[0], argv, env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=defaults
    )


def restrain(pid: int) -> None:
    """Keep some processes in reserve for us, and let the kernel choose the child when memory runs out."""
    with contextlib.suppress(OSError):  # it may have ended
        limit = max(1, resource.getrlimit(resource.RLIMIT_NPROC)[0] - RESERVED_PROCESSES)
        resource.prlimit(pid, resource.RLIMIT_NPROC, (limit, limit))
        with open(f"/proc/{pid}/oom_score_adj", "w") as file:
            file.write("700")


def work_on_files(call: Call, streams: tuple[int, int, int]) -> NoReturn:
    """In the forked child: do the operation and end."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, fd in enumerate(streams):
            os.dup2(fd, number, inheritable=False)
        os.closerange(3, ALL_DESCRIPTORS)
        os.chdir(WORKSPACE)
        files.write_all(2, json.dumps(files.run(call["name"], call["args"])).encode())
        code = 0
    finally:
        os._exit(code)


def cookie_of(child: Child) -> bytes:
    return f"{COOKIE}={child.name}".encode()


def kill_tree(child: Child, number: int) -> None:
    """Signal everything that a command started: its session, its descendants, and daemons that carry its cookie."""
    for _ in range(10):
        found = tree(child.pid if child.status is None else 0, cookie_of(child))
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        if not found or number != signal.SIGKILL:
            return


def describe(child: Child) -> Call:
    return {
        "id": child.name,
        "kind": child.kind,
        "command": child.command[:2000],
        "running": child.status is None,
        "exit_code": exit_code(child.status),
        "seconds": child.seconds or time.monotonic() - child.started,
        "output_size": child.log.size,
        "log_path": child.log.path,
    }


def unread(fd: int) -> int:
    """Bytes that wait in a pipe or terminal."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0])
    except OSError:
        return 0


def resize(fd: int, cols: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def loopback_listener() -> socket.socket:
    """The proxy's door inside the box; the host accepts on it, so no bytes pass through here."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", PROXY_PORT))
    listener.listen(64)
    return listener


def main() -> None:
    """Arguments: the number of the host's socket, and `proxy` or `off`."""
    os.dup2(int(sys.argv[1]), 3, inheritable=False)
    os.closerange(4, ALL_DESCRIPTORS)
    control = socket.socket(fileno=3)
    # Commands run as the same user: without this they could trace PID 1 or open its descriptors.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # PID 1 ignores what it has no handler for
    os.umask(0o022)
    with contextlib.ExitStack() as door:
        descriptors = [door.enter_context(loopback_listener()).fileno()] if sys.argv[2] == "proxy" else []
        socket.send_fds(control, [b"ready"], descriptors)
    Supervisor(control).serve()
