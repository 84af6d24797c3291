"""The supervisor inside a sandbox: its PID 1, one thread, standard library only, Python 3.9 or newer.

It starts commands, carries their bytes, keeps their logs and reaps everything. It has no more rights than what it
runs; the host trusts nothing it says beyond its own bounds. File operations run in a forked child each, so that no
FIFO, huge file or slow pattern can hang PID 1. It ends, and the kernel ends the whole box, when the host's socket closes.

Frames both ways: length of the payload (u32), kind (u8), channel (u32), payload. A channel is opened by a CALL and
closed by its DONE. Data flow is bounded by credit: a side sends at most WINDOW bytes that the other has not granted back.
"""

import ctypes
import errno
import fcntl
import json
import os
import re
import resource
import select
import signal
import socket
import stat
import struct
import sys
import termios
import time

HEADER = struct.Struct("!IBI")
CALL, DATA, ERR, EOF, CREDIT, DONE, HELLO = range(1, 8)
CHUNK = 64 * 1024
WINDOW = 512 * 1024
FRAME_LIMIT = 1024 * 1024
PROXY_PORT = 3128

EARLY_BYTES = 16 * 1024
LOG_LIMIT = 10 * 1024 * 1024
LOG_TAIL = 64 * 1024
LOGS_KEPT = 50
FORGET_AFTER = 64
GRACE = 0.2
RESERVED_PROCESSES = 16
COOKIE = "VIBE_PROCESS"
LOG_DIR = "/workspace/.vibe/logs"
HASH_LIMIT = 64 * 1024 * 1024
FILE_SECONDS = 60.0
PR_SET_DUMPABLE = 4


class Problem(Exception):
    """An answer instead of a result: a code that the host knows, and words."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def problem_of(error):
    """The answer for an operating-system error."""
    codes = {
        errno.ENOENT: "not_found",
        errno.ENOTDIR: "not_found",
        errno.ENOSPC: "quota",
        errno.EDQUOT: "quota",
        errno.EFBIG: "quota",
        errno.EAGAIN: "quota",
        errno.ENOMEM: "quota",
        errno.EEXIST: "conflict",
        errno.ENOTEMPTY: "conflict",
    }
    text = os.strerror(error.errno) if error.errno else str(error)
    if error.errno == errno.EAGAIN:
        text = "too many processes"
    return {"error": codes.get(error.errno, "invalid"), "text": ": ".join(filter(None, [text, error.filename]))}


class Log:
    """Output of one command: in memory while small, then a file up to LOG_LIMIT, and the newest bytes beyond it."""

    def __init__(self, name):
        self.name = name
        self.size = 0
        self.kept = 0
        self.early = bytearray()
        self.tail = bytearray()
        self.fd = -1
        self.path = None

    def feed(self, data):
        self.size += len(data)
        if self.path is None and self.size <= EARLY_BYTES:
            self.early += data
            self.kept = self.size
            return
        if self.path is None:
            self._open()
        room = LOG_LIMIT - self.kept
        if room > 0 and self.fd >= 0:
            try:
                self.kept += os.write(self.fd, data[:room])
            except OSError:  # a full workspace: what follows is only in the tail
                self._close()
        self.tail += data
        if len(self.tail) > 2 * LOG_TAIL:
            del self.tail[:-LOG_TAIL]

    def read(self, offset, limit):
        """Bytes from `offset` on; jumps over what was dropped. Returns (offset, bytes)."""
        if offset < self.kept:
            if self.path is None:
                return offset, bytes(self.early[offset : offset + limit])
            try:
                with open(self.path, "rb") as file:
                    file.seek(offset)
                    data = file.read(min(limit, self.kept - offset))
                    if data:
                        return offset, data
            except OSError:
                pass
        start = max(offset, self.size - len(self.tail))
        at = start - (self.size - len(self.tail))
        return start, bytes(self.tail[at : at + limit])

    def _open(self):
        self.path = ""
        try:
            os.makedirs(LOG_DIR, exist_ok=True)
            names = sorted(os.listdir(LOG_DIR))
            for name in names[: max(0, len(names) - LOGS_KEPT + 1)]:
                os.unlink(os.path.join(LOG_DIR, name))
            path = os.path.join(LOG_DIR, time.strftime("%Y%m%d-%H%M%S-") + self.name + ".log")
            self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self.path = path
            os.write(self.fd, self.early)
        except OSError:
            self.kept = 0
            self.tail += self.early
            self._close()
        self.early = bytearray()

    def _close(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    close = _close


class Child:
    """One started command or file operation, and the channel it talks on."""

    def __init__(self, channel, kind, command):
        self.channel = channel
        self.kind = kind
        self.command = command
        self.pid = 0
        self.stdin = -1
        self.outputs = {}
        self.owed = {}
        self.paused = False
        self.credit = WINDOW
        self.pending = []
        self.stdin_ends = False
        self.forwards = kind != "spawn"
        self.log = None if kind == "file" else Log("p%d" % channel)
        self.started = time.monotonic()
        self.seconds = 0.0
        self.status = None
        self.finish_at = None
        self.reported = False
        self.deadline = None
        self.kill_at = None
        self.reason = None


class Supervisor:
    """The event loop of PID 1."""

    def __init__(self, control):
        self.control = control
        self.inbox = bytearray()
        self.children = {}
        self.by_pid = {}
        self.by_fd = {}
        self.poll = select.epoll()
        self.config = {}
        self.shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
        self.born = time.monotonic()
        self.watch_at = None
        self.du = None
        self.disk = None

    # -- wire

    def send(self, kind, channel, payload=b""):
        head = HEADER.pack(len(payload), kind, channel)
        sent = self.control.sendmsg([head, payload])
        if sent < HEADER.size + len(payload):
            self.control.sendall((head + bytes(payload))[sent:])

    def answer(self, channel, body):
        self.send(DONE, channel, json.dumps(body).encode())

    def serve(self):
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        control = self.control.fileno()
        self.poll.register(control, select.EPOLLIN)
        self.poll.register(wake_read, select.EPOLLIN)
        while True:
            for fd, events in self.poll.poll(self.wait_seconds()):
                if fd == control:
                    if not self.receive():
                        return
                elif fd == wake_read:
                    os.read(wake_read, 4096)
                elif fd in self.by_fd:
                    child = self.by_fd[fd]
                    if fd == child.stdin:
                        self.feed(child)
                    else:
                        self.drain(child, fd)
            self.reap()
            self.on_time()

    def receive(self):
        try:
            data = self.control.recv(256 * 1024, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        if not data:
            return False
        self.inbox += data
        at = 0
        while len(self.inbox) - at >= HEADER.size:
            size, kind, channel = HEADER.unpack_from(self.inbox, at)
            if len(self.inbox) - at - HEADER.size < size:
                break
            at += HEADER.size
            payload = bytes(self.inbox[at : at + size])
            at += size
            self.on_frame(kind, channel, payload)
        del self.inbox[:at]
        return True

    def on_frame(self, kind, channel, payload):
        child = self.children.get(channel)
        if kind == CALL:
            call = json.loads(payload)
            try:
                getattr(self, "do_" + call["op"])(channel, call)
            except Problem as problem:
                self.answer(channel, {"error": problem.code, "text": str(problem)})
            except OSError as error:
                self.answer(channel, problem_of(error))
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

    def do_configure(self, channel, call):
        self.config = call
        limit = call["processes"]
        _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        most = limit + RESERVED_PROCESSES
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (call["file_size"], call["file_size"]))
        files = min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        if call["watch_memory"]:
            resource.setrlimit(resource.RLIMIT_DATA, (call["watch_memory"], call["watch_memory"]))
        if call["watch_memory"] or call["watch_disk"]:
            self.watch_at = time.monotonic()
        os.environ.clear()
        os.environ.update(call["env"])
        self.answer(channel, {"ok": True})

    def do_run(self, channel, call):
        """Start a command: `kind` exec, spawn or pty."""
        command = call["command"]
        argv = [self.shell, "-c", command] if isinstance(command, str) else command
        child = Child(channel, call["kind"], command if isinstance(command, str) else " ".join(command))
        env = dict(os.environ)
        env.update(call["env"])
        env[COOKIE] = "p%d" % channel
        try:
            os.chdir(call["cwd"])
        except OSError as error:
            raise Problem("not_found", "working directory: %s: %s" % (os.strerror(error.errno), call["cwd"])) from None
        try:
            if child.kind == "pty":
                self.start_on_terminal(child, argv, env, call["cols"], call["rows"])
            else:
                self.start_on_pipes(child, argv, env)
        except FileNotFoundError:
            raise Problem("not_found", "command not found: %s" % argv[0]) from None
        finally:
            os.chdir("/")
        self.adopt(child, call["timeout"])
        self.restrain(child.pid)
        if not call["stdin"]:
            child.stdin_ends = True
            self.feed(child)
        if child.kind == "spawn":
            self.answer(channel, {"process": "p%d" % channel})
        elif child.kind == "pty":
            self.send(HELLO, channel)

    def start_on_pipes(self, child, argv, env):
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        (in_read, in_write), (out_read, out_write), (err_read, err_write) = pipes
        try:
            child.pid = self.spawn(argv, env, [(os.POSIX_SPAWN_DUP2, in_read, 0), (os.POSIX_SPAWN_DUP2, out_write, 1), (os.POSIX_SPAWN_DUP2, err_write, 2)])
        except BaseException:
            for fd in (in_write, out_read, err_read):
                os.close(fd)
            raise
        finally:
            for fd in (in_read, out_write, err_write):
                os.close(fd)
        child.stdin = in_write
        child.outputs = {out_read: DATA, err_read: ERR}

    def start_on_terminal(self, child, argv, env, cols, rows):
        master, slave = os.openpty()
        try:
            resize(master, cols, rows)
            # The first terminal that a new session opens becomes its controlling one.
            actions = [(os.POSIX_SPAWN_OPEN, 0, os.ttyname(slave), os.O_RDWR, 0), (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]
            child.pid = self.spawn(argv, env, actions)
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        child.stdin = os.dup(master)
        os.set_inheritable(child.stdin, False)
        child.outputs = {master: DATA}

    def spawn(self, argv, env, actions):
        defaults = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD]
        return os.posix_spawnp(argv[0], argv, env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=defaults)

    def restrain(self, pid):
        """Keep some processes in reserve for us, and let the kernel choose the child when memory runs out."""
        try:
            soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
            limit = max(1, soft - RESERVED_PROCESSES)
            resource.prlimit(pid, resource.RLIMIT_NPROC, (limit, limit))
            with open("/proc/%d/oom_score_adj" % pid, "w") as file:
                file.write("700")
        except OSError:  # it has already ended
            pass

    def do_file(self, channel, call):
        """A file operation, in a child of its own: data on its standard streams, its answer on standard error."""
        child = Child(channel, "file", call["name"])
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        (in_read, in_write), (out_read, out_write), (err_read, err_write) = pipes
        pid = os.fork()
        if pid == 0:
            self.become_file_worker(call, in_read, out_write, err_write)
        for fd in (in_read, out_write, err_write):
            os.close(fd)
        child.pid, child.stdin, child.outputs = pid, in_write, {out_read: DATA, err_read: ERR}
        self.adopt(child, call["timeout"])

    def become_file_worker(self, call, stdin, stdout, stderr):
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for target, fd in enumerate((stdin, stdout, stderr)):
                os.dup2(fd, target, inheritable=False)
            os.closerange(3, 1 << 20)
            os.chdir("/workspace")
            try:
                body = FILE_OPERATIONS[call["name"]](**call["args"])
            except Problem as problem:
                body = {"error": problem.code, "text": str(problem)}
            except OSError as error:
                body = problem_of(error)
            except Exception as error:  # the last line before the answer
                body = {"error": "invalid", "text": "%s: %s" % (type(error).__name__, error)}
            write_all(2, json.dumps(body).encode())
            code = 0
        finally:
            os._exit(code)

    def adopt(self, child, timeout):
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

    def give(self, child, payload):
        if child.stdin < 0 or child.stdin_ends:
            self.send(CREDIT, child.channel, len(payload).to_bytes(4, "big"))
            return
        child.pending.append(payload)
        self.feed(child)

    def feed(self, child):
        """Write what is pending to the child's standard input, as far as it takes it."""
        while child.stdin >= 0 and child.pending:
            data = child.pending[0]
            try:
                count = os.write(child.stdin, data)
            except BlockingIOError:
                self.want_write(child)
                return
            except OSError:  # the child no longer reads
                rest = sum(map(len, child.pending))
                child.pending.clear()
                self.send(CREDIT, child.channel, rest.to_bytes(4, "big"))
                self.close_stdin(child)
                return
            self.send(CREDIT, child.channel, count.to_bytes(4, "big"))
            if count < len(data):
                child.pending[0] = data[count:]
            else:
                child.pending.pop(0)
        if child.stdin < 0:
            return
        if child.stdin_ends and child.kind != "pty":
            self.close_stdin(child)
        else:
            self.no_write(child)

    def want_write(self, child):
        try:
            self.poll.register(child.stdin, select.EPOLLOUT)
        except FileExistsError:
            pass

    def no_write(self, child):
        try:
            self.poll.unregister(child.stdin)
        except FileNotFoundError:
            pass

    def close_stdin(self, child):
        if child.stdin >= 0:
            self.no_write(child)
            del self.by_fd[child.stdin]
            os.close(child.stdin)
            child.stdin = -1

    def drain(self, child, fd):
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
        if child.log is not None:
            child.log.feed(data)
        if forwards:
            child.credit -= len(data)
            self.send(child.outputs[fd], child.channel, data)
            if child.credit <= 0:
                child.paused = True
                for other in child.outputs:
                    self.poll.unregister(other)

    def close_output(self, child, fd):
        self.poll.unregister(fd)
        del self.by_fd[fd], child.outputs[fd]
        child.owed.pop(fd, None)
        os.close(fd)
        if child.reported and not child.outputs and child.log is not None:
            child.log.close()

    # -- ending

    def reap(self):
        """Collect every ended process, ours and orphans alike."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if self.du is not None and pid == self.du[0]:
                self.du_ended()
            child = self.by_pid.pop(pid, None)
            if child is not None:
                child.status = status
                child.seconds = time.monotonic() - child.started
                child.finish_at = time.monotonic() + GRACE
                child.owed = {fd: unread(fd) for fd in child.outputs}
                self.close_stdin(child)

    def wait_seconds(self):
        now = time.monotonic()
        times = [now + 3600.0]
        for child in self.children.values():
            if child.reported:
                continue
            if child.status is not None and not child.outputs:
                return 0
            times += [t for t in (child.deadline, child.kill_at, child.finish_at) if t is not None]
        if self.watch_at is not None:
            times.append(self.watch_at)
        return max(0.0, min(times) - now)

    def on_time(self):
        now = time.monotonic()
        for child in list(self.children.values()):
            if child.status is None:
                if child.deadline is not None and now >= child.deadline:
                    self.end(child, "timeout", 1.0)
                if child.kill_at is not None and now >= child.kill_at:
                    child.kill_at = None
                    self.kill_tree(child, signal.SIGKILL)
            elif not child.reported:
                done = not child.outputs
                if not done and now >= child.finish_at:
                    # What it wrote before it ended is still owed; a daemon that holds the pipe open is not waited for.
                    done = not child.paused and all(left <= 0 for left in child.owed.values())
                    child.finish_at = now + GRACE
                if done:
                    self.report(child)
        if self.watch_at is not None and now >= self.watch_at:
            self.watch(now)

    def end(self, child, reason, grace):
        child.deadline = None
        child.reason = child.reason or reason
        if grace > 0:
            self.kill_tree(child, signal.SIGTERM)
            child.kill_at = time.monotonic() + grace
        else:
            self.kill_tree(child, signal.SIGKILL)

    def report(self, child):
        child.reported = True
        if child.reason is not None:
            self.kill_tree(child, signal.SIGKILL)
        if child.log is not None and not child.outputs:
            child.log.close()
        body = {"exit": os.waitstatus_to_exitcode(child.status), "reason": child.reason, "seconds": child.seconds}
        if child.log is not None:
            body.update(log=child.log.path or None, dropped=child.log.size - child.log.kept)
        if child.kind != "spawn":
            self.answer(child.channel, body)
        if child.kind == "file":
            del self.children[child.channel]
        self.forget()

    def forget(self):
        """Drop the oldest ended commands; `processes` shows the rest."""
        ended = [c for c in self.children.values() if c.reported and not c.outputs]
        for child in ended[: max(0, len(ended) - FORGET_AFTER)]:
            del self.children[child.channel]

    def kill_tree(self, child, number):
        """Signal everything that a command started: its session, its descendants, and daemons that carry its cookie."""
        for _ in range(10):
            found = tree(child.pid if child.status is None else 0, ("%s=p%d" % (COOKIE, child.channel)).encode())
            for pid in found:
                try:
                    os.kill(pid, number)
                except OSError:
                    pass
            if not found or number != signal.SIGKILL:
                return

    # -- the other calls

    def find(self, call):
        name = call["process"]
        for child in self.children.values():
            if child.kind != "file" and "p%d" % child.channel == name:
                return child
        raise Problem("not_found", "no such process: %s" % name)

    def do_processes(self, channel, call):
        shown = [self.describe(child) for child in self.children.values() if child.kind != "file"]
        self.answer(channel, {"processes": shown})

    def describe(self, child):
        return {
            "id": "p%d" % child.channel,
            "kind": child.kind,
            "command": child.command[:2000],
            "running": child.status is None,
            "exit_code": exit_code(child.status),
            "seconds": child.seconds or time.monotonic() - child.started,
            "output_size": child.log.size,
            "log_path": child.log.path or None,
        }

    def do_logs(self, channel, call):
        child = self.find(call)
        for fd in list(child.outputs) if not child.forwards else ():
            self.drain(child, fd)
        offset, data = child.log.read(call["offset"], min(call["limit"], FRAME_LIMIT // 2))
        self.send(DATA, channel, data)
        running = child.status is None
        self.answer(channel, {"offset": offset, "size": child.log.size, "running": running, "exit_code": exit_code(child.status)})

    def do_send(self, channel, call):
        child = self.find(call)
        if child.stdin < 0 or child.stdin_ends:
            raise Problem("invalid", "its standard input is closed")
        if sum(map(len, child.pending)) > FRAME_LIMIT:
            raise Problem("invalid", "it does not read its standard input; 1 MB is already waiting")
        self.give(child, call["data"].encode("latin-1"))
        if call["end"]:
            child.stdin_ends = True
            self.feed(child)
        self.answer(channel, {"ok": True})

    def do_kill(self, channel, call):
        child = self.find(call)
        if child.status is None:
            self.end(child, "killed", call["grace"])
        else:
            self.kill_tree(child, signal.SIGKILL)
        self.answer(channel, {"ok": True})

    def do_cancel(self, channel, call):
        """Kill whatever runs on a channel, at once; its DONE still follows."""
        child = self.children.get(call["channel"])
        if child is not None and child.status is None:
            self.end(child, "killed", 0)
        self.answer(channel, {"ok": True})

    def do_resize(self, channel, call):
        child = self.find(call)
        if child.kind != "pty" or child.stdin < 0:
            raise Problem("invalid", "not a running terminal")
        resize(child.stdin, call["cols"], call["rows"])
        self.answer(channel, {"ok": True})

    def do_metrics(self, channel, call):
        memory, count, _ = usage()
        space = os.statvfs("/workspace")
        disk = (space.f_blocks - space.f_bfree) * space.f_frsize
        self.answer(
            channel,
            {
                "memory": memory,
                "processes": count,
                "disk_used": disk if not self.config["watch_disk"] else self.disk and self.disk[0],
                "inodes_used": space.f_files - space.f_ffree if not self.config["watch_disk"] else self.disk and self.disk[1],
                "uptime": time.monotonic() - self.born,
            },
        )

    # -- the watchdog, where the kernel sets no hard limit

    def watch(self, now):
        self.watch_at = now + (0.25 if self.by_pid else 2.0)
        limit = self.config["watch_memory"]
        if limit:
            memory, _, largest = usage()
            if memory > limit and largest:
                self.blame(largest, "out_of_memory")
                os.kill(largest, signal.SIGKILL)
                self.watch_at = now + 0.02
        if self.config["watch_disk"] and self.du is None and now >= self.config.get("du_at", 0.0):
            self.start_du(now)

    def start_du(self, now):
        read, write = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                os.write(write, json.dumps(disk_usage("/workspace")).encode())
            finally:
                os._exit(0)
        os.close(write)
        self.du = (pid, read, now)

    def du_ended(self):
        _, read, started = self.du
        data = os.read(read, 4096)
        os.close(read)
        self.du = None
        now = time.monotonic()
        self.config["du_at"] = now + max(2.0, 5 * (now - started))
        if not data:
            return
        before, self.disk = self.disk, json.loads(data)
        over = self.disk[0] > self.config["watch_disk"] or self.disk[1] > self.config["watch_inodes"]
        grew = before is None or self.disk[0] > before[0] or self.disk[1] > before[1]
        if over and grew:
            # Everything that runs is stopped; a later command may clean up, as long as the workspace does not grow.
            for child in self.by_pid.values():
                child.reason = child.reason or "out_of_disk"
            os.kill(-1, signal.SIGKILL)

    def blame(self, pid, reason):
        for child in self.by_pid.values():
            if pid == child.pid or pid in tree(child.pid, ("%s=p%d" % (COOKIE, child.channel)).encode()):
                child.reason = child.reason or reason


# -- processes


def exit_code(status):
    """The shell's number for how a process ended: 128 + signal when a signal ended it."""
    if status is None:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def unread(fd):
    """Bytes that wait in a pipe or terminal."""
    try:
        return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]
    except OSError:
        return 0


def resize(fd, cols, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def every_process():
    """(pid, parent, session, resident bytes not shared) of every process but this one."""
    page = resource.getpagesize()
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == "1":
            continue
        try:
            with open("/proc/%s/stat" % name, "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            with open("/proc/%s/statm" % name, "rb") as file:
                memory = file.read().split()
        except OSError:
            continue
        if fields[0] != b"Z":
            yield int(name), int(fields[1]), int(fields[3]), (int(memory[1]) - int(memory[2])) * page


def tree(root, cookie):
    """Pids of a command's session, its descendants, and of every process that carries its cookie."""
    found = set()
    processes = [p[:3] for p in every_process()]
    if root:
        found.add(root)
        grew = True
        while grew:
            more = {pid for pid, parent, session in processes if pid not in found and (parent in found or session == root)}
            found |= more
            grew = bool(more)
        if root not in {p[0] for p in processes}:
            found.discard(root)
    for pid, _, _ in processes:
        if pid not in found:
            try:
                with open("/proc/%d/environ" % pid, "rb") as file:
                    if cookie in file.read(65536).split(b"\0"):
                        found.add(pid)
            except OSError:
                pass
    return found


def usage():
    """(bytes of memory, processes, pid of the largest); files in memory count too."""
    total, count, largest, most = 0, 0, 0, -1
    for pid, _, _, memory in every_process():
        total += memory
        count += 1
        if memory > most:
            largest, most = pid, memory
    for path in ("/tmp", "/dev/shm"):
        space = os.statvfs(path)
        total += (space.f_blocks - space.f_bfree) * space.f_frsize
    return total, count, largest


# -- files (each runs in a child of its own, with the workspace as its directory)


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def open_regular(path):
    """A descriptor of a regular file; never waits for a FIFO or device."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        kind = "a directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "not a regular file"
        raise Problem("invalid", "%s is %s" % (path, kind))
    return fd


def digest_of(path):
    """sha256 of a regular file, "" when it does not exist."""
    import hashlib

    try:
        fd = open_regular(path)
    except FileNotFoundError:
        return ""
    digest = hashlib.sha256()
    while True:
        data = os.read(fd, 1 << 20)
        if not data:
            os.close(fd)
            return digest.hexdigest()
        digest.update(data)


def file_read(path, offset, length):
    fd = open_regular(path)
    size = os.fstat(fd).st_size
    digest = digest_of(path) if size <= HASH_LIMIT else None
    end = min(size, offset + length)
    at = offset
    while at < end:
        data = os.pread(fd, min(CHUNK, end - at), at)
        if not data:
            break
        write_all(1, data)
        at += len(data)
    return {"size": size, "sha256": digest}


def file_write(path, expected, mode):
    import hashlib

    path = os.path.realpath(path)
    if os.path.isdir(path):
        raise Problem("invalid", "%s is a directory" % path)
    if expected is not None and digest_of(path) != expected:
        raise Problem("conflict", "%s has changed since it was read" % path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if mode is None:
        mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o644
    scratch = os.path.join(os.path.dirname(path), ".vibe-write-%d" % os.getpid())
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    digest = hashlib.sha256()
    try:
        while True:
            data = os.read(0, CHUNK)
            if not data:
                break
            digest.update(data)
            write_all(fd, data)
        os.fchmod(fd, mode & 0o777)
        os.rename(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise
    return {"sha256": digest.hexdigest()}


def describe_file(path):
    info = os.lstat(path)
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}
    kind = kinds.get(stat.S_IFMT(info.st_mode), "other")
    target = os.readlink(path) if kind == "symlink" else None
    return [clean(path), kind, info.st_size, stat.S_IMODE(info.st_mode), info.st_mtime, target and clean(target)]


def clean(name):
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def file_stat(path):
    return {"entry": describe_file(os.path.abspath(path))}


def file_list(path, depth, limit):
    root = os.path.abspath(path)
    if not os.path.isdir(root):
        os.listdir(root)
    entries, level, truncated = [], [root], False
    for _ in range(depth):
        below = []
        for folder in level:
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                continue
            for name in names:
                if len(entries) >= limit:
                    truncated = True
                    break
                full = os.path.join(folder, name)
                try:
                    entry = describe_file(full)
                except OSError:
                    continue
                entries.append(entry)
                if entry[1] == "dir":
                    below.append(full)
        level = below
    entries.sort(key=lambda entry: entry[0])
    write_all(1, json.dumps(entries).encode())
    return {"truncated": truncated}


def file_move(source, target):
    os.lstat(source)
    if os.path.lexists(target):
        raise Problem("conflict", "%s exists already" % target)
    os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        import shutil

        shutil.move(source, target)
    return {"ok": True}


def file_delete(path):
    if os.path.realpath(path) == "/workspace":
        raise Problem("invalid", "the workspace itself is not deleted")
    if os.path.isdir(path) and not os.path.islink(path):
        import shutil

        shutil.rmtree(path)
    else:
        os.unlink(path)
    return {"ok": True}


def walk_files(root):
    if not os.path.isdir(root):
        os.lstat(root)
        yield root
        return
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in (".git", "node_modules", "__pycache__", ".vibe", ".venv"))
        for name in sorted(files):
            yield os.path.join(folder, name)


def file_search(pattern, path, glob, regex, limit):
    import fnmatch

    try:
        wanted = re.compile(pattern if regex else re.escape(pattern))
    except re.error as error:
        raise Problem("invalid", "bad pattern: %s" % error) from None
    matches = []
    for name in walk_files(os.path.abspath(path)):
        if not (fnmatch.fnmatch(os.path.basename(name), glob) or fnmatch.fnmatch(name, glob)):
            continue
        if pattern:
            matches += [[clean(name), line, text] for line, text in lines_matching(name, wanted, limit - len(matches) + 1)]
        else:
            matches.append([clean(name), 0, ""])
        if len(matches) > limit:
            break
    write_all(1, json.dumps(matches[:limit]).encode())
    return {"truncated": len(matches) > limit}


def lines_matching(name, wanted, limit):
    """Up to `limit` (number, line) of a text file of at most 4 MB."""
    try:
        fd = open_regular(name)
    except (OSError, Problem):
        return []
    with os.fdopen(fd, "rb") as file:
        data = file.read(4 << 20)
    if b"\0" in data[:8192]:
        return []
    found = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if wanted.search(line):
            found.append((number, line[:300]))
            if len(found) >= limit:
                break
    return found


def file_archive(path):
    import tarfile

    full = os.path.abspath(path)
    os.lstat(full)
    with os.fdopen(os.dup(1), "wb", 1 << 16) as out, tarfile.open(fileobj=out, mode="w|gz", compresslevel=3) as tar:
        tar.add(full, arcname=os.path.basename(full) or "root", filter=plain_member)
    return {"ok": True}


def plain_member(member):
    """Only files, directories and links are archived, and they belong to nobody."""
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def disk_usage(root):
    """[bytes, files] below a directory."""
    size, count = 0, 0
    for folder, names, files in os.walk(root):
        for name in files + names:
            try:
                size += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                pass
            count += 1
    return [size, count]


FILE_OPERATIONS = {
    "read": file_read,
    "write": file_write,
    "stat": file_stat,
    "list": file_list,
    "move": file_move,
    "delete": file_delete,
    "search": file_search,
    "archive": file_archive,
}


def loopback_listener():
    """The proxy's door inside the box; the host accepts on it, so no bytes pass through here."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", PROXY_PORT))
    listener.listen(64)
    return listener


def main():
    os.dup2(int(sys.argv[1]), 3, inheritable=False)
    os.closerange(4, 1 << 20)
    control = socket.socket(fileno=3)
    # Commands run as the same user: without this they could trace PID 1 or open its descriptors.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # PID 1 ignores what it has no handler for
    os.umask(0o022)
    descriptors = []
    if sys.argv[2] == "proxy":
        listener = loopback_listener()
        descriptors.append(listener.fileno())
    socket.send_fds(control, [b"ready"], descriptors)
    Supervisor(control).serve()


if __name__ == "__main__":
    main()
