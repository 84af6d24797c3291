"""The arguments for bwrap: what a box sees of the machine. The order of mounts matters."""

import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from backend.sandbox import inside
from backend.sandbox.interpreter import MOUNTED
from backend.sandbox.protocol import Limits

PASSWD = b"root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nagent:x:1000:1000:agent:/workspace:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
GROUP = b"root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n"
HOSTS = b"127.0.0.1 localhost sandbox\n::1 localhost\n"
NSSWITCH = b"passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n"
_HOME = "/run/vibe"
_COMPILE = """
import py_compile, sys
for source, target in zip(sys.argv[1::2], sys.argv[2::2]):
    py_compile.compile(source, target, 'inside/' + source.rpartition('/')[2], invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""
Modules: TypeAlias = tuple[tuple[str, bytes], ...]
_PACKAGE = Path(inside.__file__).parent
START = f"import sys; sys.path.insert(0, {_HOME!r}); from backend.sandbox.inside import agentd; agentd.main()"

_ETC = (
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl/certs",
    "ssl/openssl.cnf",
    "pki/tls/certs",
    "ca-certificates",
    "alternatives",
    "fonts",
    "localtime",
    "mime.types",
    "protocols",
    "services",
    "magic",
    "os-release",
    "java-17-openjdk",
    "java-21-openjdk",
    "python3",
    "python3.11",
    "perl",
)


@dataclass
class Arguments:
    """bwrap's option list and the in-memory files it names by descriptor."""

    options: list[str] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def add(self, *options: str) -> None:
        """Append options."""
        self.options += options

    def data(self, content: bytes, target: str) -> None:
        """A read-only file with this content."""
        self.add("--perms", "0444", "--ro-bind-data", str(self.descriptor(content)), target)

    def descriptor(self, content: bytes) -> int:
        """An anonymous file that holds `content`, read from its start."""
        fd = os.memfd_create("vibe", os.MFD_CLOEXEC)
        self.descriptors.append(fd)
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(content)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.descriptors:
            os.close(fd)
        self.descriptors.clear()


@functools.cache
def supervisor(python: str) -> Modules:
    """The supervisor's modules, compiled by the interpreter that will run them: that is a quarter of a box's start.
    Their sources when it does not compile them."""
    with tempfile.TemporaryDirectory() as folder:
        sources = sorted(_PACKAGE.glob("*.py"))
        compiled = [Path(folder, f"{source.stem}.pyc") for source in sources]
        pairs = [str(path) for pair in zip(sources, compiled, strict=True) for path in pair]
        subprocess.run(
            [python, "-I", "-S", "-c", _COMPILE, *pairs],
            check=False,
            capture_output=True,
            env={},
            cwd=folder,
            timeout=60,
        )
        if all(path.exists() for path in compiled):
            return tuple((path.name, path.read_bytes()) for path in compiled)
        return tuple((source.name, source.read_bytes()) for source in sources)


def build(
    files: Path, limits: Limits, seccomp: bytes, supervisor: Modules, python_home: Path | None
) -> Arguments:
    """The whole profile for one box on the workspace directory `files`."""
    args = Arguments()
    args.add(
        "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
        "--disable-userns", "--assert-userns-disabled", "--die-with-parent", "--new-session", "--as-pid-1",
        "--cap-drop", "ALL", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox",
    )  # fmt: skip
    args.add("--size", str(1024 * 1024), "--tmpfs", "/")
    args.add(*_system())
    for name in _ETC:
        args.add("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")
    for name, content in (
        ("passwd", PASSWD),
        ("group", GROUP),
        ("hosts", HOSTS),
        ("nsswitch.conf", NSSWITCH),
    ):
        args.data(content, f"/etc/{name}")
    # A box's root owns /proc/sys of the kernel as uid 0 does: bound read-only on itself it is closed for all.
    args.add("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys")
    for name in ("cmdline", "kallsyms", "kcore", "keys"):  # the machine's own business
        if os.path.exists(f"/proc/{name}"):
            args.add("--ro-bind", "/dev/null", f"/proc/{name}")
    args.add("--dev", "/dev", "--size", str(limits.tmp_mb << 20), "--tmpfs", "/dev/shm")
    args.add(
        "--size",
        str(limits.tmp_mb << 20),
        "--perms",
        "1777",
        "--tmpfs",
        "/tmp",
        "--symlink",
        "/tmp",
        "/var/tmp",
    )
    args.add("--remount-ro", "/dev")
    for name, content in supervisor:
        args.data(content, f"{_HOME}/backend/sandbox/inside/{name}")
    if python_home is not None:
        args.add("--ro-bind", str(python_home), MOUNTED)
    args.add("--bind", str(files), "/workspace", "--remount-ro", "/", "--chdir", "/", "--clearenv")
    args.add("--seccomp", str(args.descriptor(seccomp)))
    return args


def environment(extra: Mapping[str, str], proxy_port: int | None) -> dict[str, str]:
    """What commands see: nothing of the service's own environment."""
    env = {
        "PATH": "/workspace/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/workspace",
        "USER": "agent",
        "LOGNAME": "agent",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "TMPDIR": "/tmp",
    }
    if proxy_port is not None:
        proxy = f"http://127.0.0.1:{proxy_port}"
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            env[name] = proxy
        env["NO_PROXY"] = env["no_proxy"] = "localhost,127.0.0.1,::1"
        env["NODE_USE_ENV_PROXY"] = "1"
    return env | dict(extra)


def _system() -> Iterator[str]:
    """/usr, and /bin and its like as the host has them: links into /usr, or directories."""
    yield from ("--ro-bind", "/usr", "/usr")
    for name in ("bin", "sbin", "lib", "lib64", "lib32", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            yield from ("--symlink", os.readlink(path), f"/{name}")
        elif path.is_dir():
            yield from ("--ro-bind", f"/{name}", f"/{name}")
