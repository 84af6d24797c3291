"""The filter's program for each architecture, run on a small machine that speaks classic BPF."""

import errno
import struct

import pytest

from backend.sandbox import seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000


def run(machine: str, number: int, *arguments: int, audit: int | None = None, small: bool = False) -> int:
    """What the kernel would do with a system call: ALLOW, KILL or an errno."""
    m = seccomp.MACHINES[machine]
    filled = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack(
        "=IIQ6Q", number, m.audit if audit is None else audit, 0, *(a & (1 << 64) - 1 for a in filled)
    )
    code: list[tuple[int, int, int, int]] = list(
        struct.iter_unpack("=HBBI", seccomp.program(machine, small_segments=small))
    )
    at = accumulator = 0
    while True:
        kind, yes, no, value = code[at]
        at += 1
        match kind:
            case 0x20:
                accumulator = struct.unpack_from("=I", data, value)[0]
            case 0x06:
                return value if value in (ALLOW, KILL) else value & 0xFFFF
            case 0x15:
                at += yes if accumulator == value else no
            case 0x35:
                at += yes if accumulator >= value else no
            case 0x45:
                at += yes if accumulator & value else no
            case _:
                raise AssertionError(f"not an instruction of ours: {kind:#x}")


CALLS = {
    # name: (x86_64, aarch64), from the kernel's tables
    "read": (0, 63), "execve": (59, 221), "openat": (257, 56), "futex": (202, 98), "ptrace": (101, 117), "prlimit64": (302, 261),
    "mount": (165, 40), "unshare": (272, 97), "setns": (308, 268), "bpf": (321, 280), "keyctl": (250, 219), "ioctl": (16, 29),
    "clone": (56, 220), "socket": (41, 198), "socketpair": (53, 199), "init_module": (175, 105), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "open_by_handle_at": (304, 265), "kexec_load": (246, 104), "chroot": (161, 51),
}  # fmt: skip


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_each_architecture_lets_ordinary_calls_pass_and_shuts_the_others(machine: str) -> None:
    number = {name: pair[machine == "aarch64"] for name, pair in CALLS.items()}
    for name in ("read", "execve", "openat", "futex", "ptrace", "prlimit64"):
        assert run(machine, number[name]) == ALLOW, name
    shut = "mount unshare setns bpf keyctl init_module perf_event_open userfaultfd open_by_handle_at kexec_load chroot"
    for name in shut.split():
        assert run(machine, number[name]) == errno.EPERM, name
    assert run(machine, 425) == errno.EPERM  # io_uring_setup
    assert run(machine, 435) == errno.ENOSYS  # clone3
    assert run(machine, 500) == errno.ENOSYS  # not known yet
    assert run(machine, number["clone"], 0x11) == ALLOW
    assert run(machine, number["clone"], 0x3D0F00) == ALLOW  # a thread
    for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x2000000):
        assert run(machine, number["clone"], flag | 0x11) == errno.EPERM
    assert run(machine, number["ioctl"], 0, 0x5412) == errno.EPERM  # TIOCSTI
    assert run(machine, number["ioctl"], 0, 0xFFFFFFFF_00005412) == errno.EPERM
    assert run(machine, number["ioctl"], 0, 0x5413) == ALLOW
    assert run(machine, number["socketpair"], 1, 1) == ALLOW
    assert run(machine, number["socketpair"], 38, 1) == errno.EAFNOSUPPORT


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ((1, 1, 0), ALLOW),
        ((2, 1, 0), ALLOW),
        ((2, 1, 6), ALLOW),
        ((10, 2, 17), ALLOW),
        ((2, 1, 132), errno.EPROTONOSUPPORT),
        ((10, 1, 262), errno.EPROTONOSUPPORT),
        ((16, 3, 0), ALLOW),
        ((16, 3, 16), errno.EPROTONOSUPPORT),
        ((17, 3, 3), errno.EAFNOSUPPORT),
        ((38, 5, 0), errno.EAFNOSUPPORT),
        ((40, 1, 0), errno.EAFNOSUPPORT),
        ((0xFFFFFFFF_00000026, 5, 0), errno.EAFNOSUPPORT),
    ],
)
def test_sockets_are_made_by_family_and_protocol(
    machine: str, arguments: tuple[int, ...], answer: int
) -> None:
    assert run(machine, CALLS["socket"][machine == "aarch64"], *arguments) == answer


@pytest.mark.parametrize(("machine", "shmget"), [("x86_64", 29), ("aarch64", 194)])
def test_large_segments_of_shared_memory_are_refused_where_nothing_counts_them(
    machine: str, shmget: int
) -> None:
    assert run(machine, shmget, 0, 1 << 30) == ALLOW
    assert run(machine, shmget, 0, 65536, small=True) == ALLOW
    for size in (65537, 1 << 30, 1 << 32, 1 << 40):
        assert run(machine, shmget, 0, size, small=True) == errno.ENOMEM


def test_another_abi_is_killed() -> None:
    assert run("x86_64", 0, audit=0x40000003) == KILL  # 32-bit calls
    assert run("x86_64", 0x40000000) == KILL  # x32
    assert run("aarch64", 63, audit=0x40000028) == KILL
    with pytest.raises(KeyError):
        seccomp.program("riscv64")
