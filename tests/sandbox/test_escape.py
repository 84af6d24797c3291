"""Every way out of a box that we could think of, tried from inside."""

import asyncio
import contextlib
import json
import os
import platform
import socket
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backend.sandbox.bubblewrap import Box, Bubblewrap
from backend.sandbox.protocol import SandboxError
from tests.sandbox.conftest import new_spec

SECRET = f"secret-{uuid.uuid4()}"
X86 = platform.machine() == "x86_64"


@pytest.fixture
async def box(driver: Bubblewrap) -> AsyncIterator[Box]:
    """A box whose launcher has a secret in its environment."""
    os.environ["VIBE_SECRET_KEY"] = SECRET
    spec = new_spec()
    try:
        opened = await driver.open(spec)
    finally:
        del os.environ["VIBE_SECRET_KEY"]
    yield opened
    await opened.close()
    await driver.destroy_workspace(spec.workspace)


PRELUDE = """
import ctypes, errno, glob, json, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    ctypes.set_errno(0)
    value = libc.syscall(*map(ctypes.c_long, arguments))
    return errno.errorcode.get(ctypes.get_errno(), "none") if value < 0 else "done"
def attempt(function, *arguments):
    try:
        value = function(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "done" if value is None else value
def first(path):
    with open(path, "rb") as file:
        return file.read(4096).decode("latin-1")
def write(path, text="1"):
    with open(path, "w") as file:
        file.write(text)
def tell(value):
    print(json.dumps(value))
"""


async def inside(box: Box, script: str) -> Any:
    """What a Python script inside tells."""
    await box.write("/tmp/probe.py", (PRELUDE + script).encode())
    result = await box.exec(["/usr/bin/python3", "-I", "/tmp/probe.py"], timeout=60)
    assert result.exit_code == 0, result.stderr.text()
    return json.loads(result.stdout.text())


# -- files


async def test_nothing_of_the_machine_is_seen_but_its_programs(box: Box) -> None:
    names = {entry.path for entry in (await box.list("/")).entries}
    assert names <= {
        "/" + name
        for name in [
            "bin",
            "dev",
            "etc",
            "lib",
            "lib32",
            "lib64",
            "libx32",
            "proc",
            "run",
            "sbin",
            "tmp",
            "usr",
            "var",
            "workspace",
        ]
    }
    seen = await inside(
        box,
        "tell([p for p in ('/etc/shadow', '/root', '/home', '/sys', '/boot', '/run/user', '/var/lib') if os.path.exists(p)])",
    )
    assert seen == []
    passwd = (await box.read("/etc/passwd")).data
    assert passwd != Path("/etc/passwd").read_bytes()


async def test_the_file_tool_follows_no_link_out_of_the_box(box: Box, root: Path) -> None:
    outside = root / "outside.txt"
    outside.write_text("outside")
    await box.exec(
        f"ln -s {outside} direct; ln -s /proc/1/root/{outside} by_init; ln -s /proc/self/root{outside} by_self; "
        f"ln -s ../../../../../../../../..{outside} relative; ln -s / up; ln -s /etc/shadow shadow"
    )
    for path in (
        "direct",
        "by_init",
        "by_self",
        "relative",
        f"up{outside}",
        "shadow",
        f"../../../..{outside}",
        str(outside),
    ):
        with pytest.raises(SandboxError):
            await box.read(path)
        with pytest.raises(SandboxError):
            [piece async for piece in box.archive(path + "/x")]
    for path in ("direct", "by_init", "up/etc/passwd", str(outside), "../etc/passwd", "/usr/bin/new"):
        with contextlib.suppress(SandboxError):  # into the box's own /tmp it may well succeed
            await box.write(path, b"changed")
    with pytest.raises(SandboxError):
        await box.delete("/usr/bin/env")
    with pytest.raises(SandboxError):
        await box.move("/etc/passwd", "stolen")
    assert outside.read_text() == "outside"


async def test_the_systems_files_cannot_be_written(box: Box) -> None:
    answers = await inside(
        box,
        """
tell({p: attempt(write, p) for p in ("/new", "/usr/new", "/etc/passwd", "/etc/new", "/bin/sh", "/run/new", "/run/vibe/new",
    "/run/vibe/backend/sandbox/inside/agentd.py", "/var/new", "/dev/new")})""",
    )
    assert set(answers.values()) <= {"EROFS", "EACCES"}, answers


# -- the launcher and other processes


async def test_the_launchers_environment_and_paths_are_nowhere(box: Box, root: Path) -> None:
    everything = await inside(
        box,
        """
found = [dict(os.environ)]
for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    found.append([path, attempt(first, path)])
tell(found)""",
    )
    text = json.dumps(everything)
    assert SECRET not in text and "SECRET_KEY" not in text
    assert str(root) not in text
    assert "/proc/1/environ" in text and '"/proc/1/environ", "EACCES"' in text


async def test_the_supervisor_cannot_be_opened_traced_or_stopped(box: Box) -> None:
    answers = await inside(
        box,
        """
answers = {p: attempt(first, "/proc/1/" + p) for p in ("mem", "maps", "environ", "auxv", "stack", "syscall", "fd/3", "fdinfo/3")}
answers["fd"] = attempt(os.listdir, "/proc/1/fd")
answers["root"] = attempt(os.readlink, "/proc/1/root")
answers["attach"] = errno.errorcode.get(-libc.ptrace(16, 1, 0, 0), "") if libc.ptrace(16, 1, 0, 0) != -1 else errno.errorcode[ctypes.get_errno()]
answers["seize"] = "" if libc.ptrace(0x4206, 1, 0, 0) != -1 else errno.errorcode[ctypes.get_errno()]
pidfd = os.pidfd_open(1)
answers["getfd"] = call(438, pidfd, 3, 0)
tell(answers)""",
    )
    assert set(answers.values()) <= {"EACCES", "EPERM"}, answers
    for name in ("INT", "TERM", "HUP", "STOP", "SEGV", "USR1", "CHLD", "KILL"):
        await box.exec(f"kill -{name} 1")
    await box.exec("kill -9 -1")
    assert (await box.exec("echo alive")).stdout.text() == "alive\n"


async def test_only_the_boxs_own_processes_exist(box: Box) -> None:
    answers = await inside(
        box,
        f"""
pids = sorted(int(p) for p in os.listdir("/proc") if p.isdigit())
tell([pids, attempt(os.kill, {os.getpid()}, 0), attempt(os.kill, {os.getppid()}, 0)])""",
    )
    pids, own, parent = answers
    assert pids[0] == 1 and len(pids) <= 3
    assert (own, parent) == ("ESRCH", "ESRCH")


async def test_commands_inherit_no_descriptor_of_ours(box: Box) -> None:
    assert await inside(
        box, "fd = os.open('/', 0); tell([fd, sorted(map(int, os.listdir('/proc/self/fd')))[:3]])"
    ) == [3, [0, 1, 2]]


async def test_on_the_machine_a_box_is_not_root(box: Box) -> None:
    marker = f"marker-{uuid.uuid4()}"
    process = await box.spawn(["/bin/bash", "-c", "sleep 1000; true", marker])
    pid, *_ = await processes_with(marker)
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split() and "0" not in fields["Gid"].split()
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2"
    if os.geteuid() == 0:
        assert fields["Groups"].strip() in ("", fields["Gid"].split()[0])
    await box.kill(process, grace=0)


async def processes_with(marker: str) -> list[int]:
    """Pids on the machine with an argument, once there are any."""
    for _ in range(500):
        found = [
            int(p.parent.name) for p in Path("/proc").glob("[0-9]*/cmdline") if marker.encode() in _bytes(p)
        ]
        if found:
            return found
        await asyncio.sleep(0.01)
    return []


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


# -- the kernel


async def test_no_namespace_can_be_made_or_entered(box: Box) -> None:
    numbers = {"unshare": (272, 97), "setns": (308, 268), "clone": (56, 220)}
    unshare, setns, clone = (pair[0 if X86 else 1] for pair in numbers.values())
    answers = await inside(
        box,
        f"""
flags = dict(user=0x10000000, mount=0x20000, net=0x40000000, pid=0x20000000, ipc=0x8000000, uts=0x4000000, cgroup=0x2000000, time=0x80)
answers = {{"unshare " + name: call({unshare}, flag) for name, flag in flags.items()}}
answers |= {{"clone " + name: call({clone}, flag | 17, 0, 0, 0, 0) for name, flag in flags.items() if name != "time"}}
answers["setns"] = call({setns}, os.open("/proc/self/ns/net", 0), 0)
answers["clone3"] = call(435, 0, 0)
tell(answers)""",
    )
    assert answers.pop("clone3") == "ENOSYS"
    assert set(answers.values()) == {"EPERM"}, answers
    assert (await box.exec("unshare -Ur true")).exit_code != 0


async def test_dangerous_system_calls_are_shut(box: Box) -> None:
    table = {
        "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "bpf": (321, 280),
        "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217),
        "request_key": (249, 218), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "open_by_handle_at": (304, 265),
        "init_module": (175, 105), "kexec_load": (246, 104), "fsopen": (430, 430), "open_tree": (428, 428),
        "move_mount": (429, 429), "mount_setattr": (442, 442), "quotactl": (179, 60), "settimeofday": (164, 170),
        "reboot": (169, 142), "swapon": (167, 224), "acct": (163, 89), "fanotify_init": (300, 262), "kcmp": (312, 272),
        "sethostname": (170, 161), "syslog": (103, 116), "name_to_handle_at": (303, 264),
    }  # fmt: skip
    numbers = {name: pair[0 if X86 else 1] for name, pair in table.items()}
    answers = await inside(
        box, f"tell({{name: call(number, 0, 0, 0, 0, 0) for name, number in {numbers!r}.items()}})"
    )
    assert set(answers.values()) == {"EPERM"}, answers
    assert await inside(box, "tell([call(463, 0), call(470, 0), call(5000, 0)])") == ["ENOSYS"] * 3


async def test_sockets_of_strange_families_cannot_be_made(box: Box) -> None:
    answers = await inside(
        box,
        """
kinds = dict(packet=(17, 3, 3), alg=(38, 5, 0), vsock=(40, 1, 0), bluetooth=(31, 3, 1), can=(29, 3, 1), xdp=(44, 3, 0), tipc=(30, 1, 0),
    rds=(21, 5, 0), key=(15, 3, 2), generic_netlink=(16, 3, 16), netfilter=(16, 3, 12), audit=(16, 3, 9), raw=(2, 3, 1),
    raw6=(10, 3, 58), sctp=(2, 1, 132), dccp=(2, 6, 33), udplite=(2, 2, 136), mptcp=(2, 1, 262))
tell({name: attempt(lambda k=kind: socket.socket(*k).close()) for name, kind in kinds.items()})""",
    )
    assert "done" not in answers.values(), answers
    fine = "[socket.socket(*k).close() for k in ((2, 1), (2, 2), (10, 1), (1, 1), (16, 3, 0))]; socket.socketpair(); tell('fine')"
    assert await inside(box, fine) == "fine"


@pytest.mark.skipif(not X86, reason="these are doors of x86 processors")
async def test_system_calls_by_another_abi_end_the_process(box: Box) -> None:
    script = "import ctypes; ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39))"
    assert (await box.exec(["/usr/bin/python3", "-c", script])).exit_code == 128 + 31
    # mov eax, 20 (getpid of the 32-bit table); int 0x80; ret
    script = (
        "import ctypes, mmap; m = mmap.mmap(-1, 4096, prot=7); m.write(bytes.fromhex('b814000000cd80c3')); "
        "f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m))); print(f())"
    )
    result = await box.exec(["/usr/bin/python3", "-c", script])
    assert result.exit_code in (128 + 31, 128 + 11) and result.stdout.size == 0


async def test_the_kernels_settings_cannot_be_changed(box: Box) -> None:
    answers = await inside(
        box,
        """
paths = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/hostname",
    "/proc/sys/user/max_user_namespaces", "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger", "/proc/self/uid_map", "/proc/self/setgroups",
    "/proc/1/oom_score_adj", "/proc/irq/default_smp_affinity", "/proc/sys/fs/binfmt_misc/register"]
tell({p: attempt(write, p) for p in paths if os.path.exists(p)})""",
    )
    assert "done" not in answers.values(), answers
    assert len(answers) >= 6


async def test_what_the_kernel_was_started_with_is_not_told(box: Box) -> None:
    script = (
        "tell([attempt(first, p) for p in ('/proc/cmdline', '/proc/kallsyms', '/proc/keys', '/proc/kmsg')])"
    )
    assert set(await inside(box, script)) <= {"", "EACCES", "ENOENT"}


async def test_a_crash_starts_no_handler_on_the_machine(box: Box) -> None:
    assert await inside(box, "import resource; tell(resource.getrlimit(resource.RLIMIT_CORE))") == [1, 1]


async def test_no_program_gives_more_rights(box: Box) -> None:
    script = """
answers = dict(setuid=attempt(os.setuid, 0), setgid=attempt(os.setgid, 0), groups=attempt(os.setgroups, [0]), mknod=attempt(os.mknod, "/tmp/node", 0o60600, os.makedev(7, 0)),
    chown=attempt(os.chown, "/workspace", 0, 0), nice=attempt(os.nice, -5), root=attempt(os.chroot, "/tmp"))
tell(answers)"""
    answers = await inside(box, script)
    assert "done" not in answers.values(), answers
    assert (await box.exec("mount -t tmpfs none /tmp")).exit_code != 0
    assert (
        await box.exec("cp /bin/bash /tmp/b && chmod 4755 /tmp/b && /tmp/b -p -c 'id -u'")
    ).stdout.text() == "1000\n"
    for program in ("su root -c true", "newgrp root </dev/null", "passwd -d root", "mount --bind / /tmp"):
        assert (await box.exec(program, timeout=10)).exit_code != 0


async def test_a_terminal_cannot_be_fed_from_behind(box: Box) -> None:
    script = """
import fcntl, pty, termios
master, slave = pty.openpty()
tell([attempt(fcntl.ioctl, slave, request, b"x" * 8) for request in (termios.TIOCSTI, 0x541C, 0x5423)])"""
    assert await inside(box, script) == ["EPERM", "EPERM", "EPERM"]
    assert (await box.exec("true < /dev/tty")).exit_code != 0


async def test_there_are_no_devices_but_the_harmless_ones(box: Box) -> None:
    names = {Path(entry.path).name for entry in (await box.list("/dev")).entries}
    harmless = {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "console",
        "pts",
        "ptmx",
        "shm",
        "core",
        "fd",
        "stdin",
        "stdout",
        "stderr",
    }
    assert names <= harmless


# -- the network


async def test_without_a_network_nothing_is_reached(box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as hidden:
        hidden.bind(f"\0vibe-{SECRET}")
        hidden.listen()
        port = server.getsockname()[1]
        answers = await inside(
            box,
            f"""
def reach(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(3)
        s.connect(address)
answers = dict(loopback=attempt(reach, 2, ("127.0.0.1", {port})), any=attempt(reach, 2, ("0.0.0.0", {port})), metadata=attempt(reach, 2, ("169.254.169.254", 80)),
    public=attempt(reach, 2, ("1.1.1.1", 443)), six=attempt(reach, 10, ("::1", {port})), abstract=attempt(reach, 1, "\\0vibe-{SECRET}"), door=attempt(reach, 2, ("127.0.0.1", 3128)))
answers["interfaces"] = str([name for _, name in socket.if_nameindex()])
try:
    socket.getaddrinfo("example.com", 80)
except socket.gaierror:
    answers["dns"] = "none"
tell(answers)""",
        )
    assert answers.pop("interfaces") == "['lo']"
    assert answers.pop("dns") == "none"
    assert set(answers.values()) <= {"ECONNREFUSED", "ENETUNREACH"}, answers
