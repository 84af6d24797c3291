"""The system-call filter of a sandbox: classic BPF, assembled here, for x86_64 and aarch64.

A deny-list on top of what user namespaces without capabilities already refuse: it keeps the kernel's larger and newer
doors shut. `clone3` answers ENOSYS so that libraries fall back to `clone`, whose flags can be read; calls newer than
the tables answer ENOSYS too.
"""

import errno
import platform
import struct
from dataclasses import dataclass

_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH = 0, 4
_NEWEST = 463
_NAMESPACES = 0x7E020080  # every CLONE_NEW* flag
_X32 = 0x40000000


@dataclass(frozen=True)
class Machine:
    """Numbers of one architecture: the audit word, the calls whose arguments are read, and those refused."""

    audit: int
    clone: int
    socket: int
    socketpair: int
    ioctl: int
    shmget: int
    denied: tuple[int, ...]


# The same numbers on every architecture: io_uring (would open sockets unseen), the mount interfaces, pidfd_getfd,
# memfd_secret, quotactl_fd.
_COMMON = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 443, 447)

# mount umount2 pivot_root chroot swapon swapoff reboot kexec_load kexec_file_load init_module finit_module
# delete_module bpf perf_event_open userfaultfd keyctl add_key request_key open_by_handle_at name_to_handle_at acct
# settimeofday clock_settime clock_adjtime adjtimex quotactl lookup_dcookie nfsservctl syslog setns unshare kcmp
# fanotify_init vhangup sethostname setdomainname
_X86_64 = (
    *(
        165,
        166,
        155,
        161,
        167,
        168,
        169,
        246,
        320,
        175,
        313,
        176,
        321,
        298,
        323,
        250,
        248,
        249,
        304,
        303,
        163,
    ),
    *(164, 227, 305, 159, 179, 212, 180, 103, 308, 272, 312, 300, 153, 170, 171),
    # uselib sysfs _sysctl iopl ioperm modify_ldt create_module get_kernel_syms query_module ustat vserver
    *(134, 139, 156, 172, 173, 154, 174, 177, 178, 136, 236),
)
_AARCH64 = (
    *(40, 39, 41, 51, 224, 225, 142, 104, 294, 105, 273, 106, 280, 241, 282, 219, 217, 218, 265, 264, 89),
    *(170, 112, 266, 171, 60, 18, 42, 116, 268, 97, 272, 262, 58, 161, 162),
)

MACHINES = {
    "x86_64": Machine(
        0xC000003E, clone=56, socket=41, socketpair=53, ioctl=16, shmget=29, denied=(*_X86_64, *_COMMON)
    ),
    "aarch64": Machine(
        0xC00000B7, clone=220, socket=198, socketpair=199, ioctl=29, shmget=194, denied=(*_AARCH64, *_COMMON)
    ),
}

_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_PROTOCOLS = (0, 1, 6, 17, 58)  # any, ICMP, TCP, UDP, ICMPv6
_TIOCSTI, _TIOCLINUX, _TIOCSETD = 0x5412, 0x541C, 0x5423
_CLONE3 = 435
_SEGMENT = 64 * 1024


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _argument(number: int, *, high: bool = False) -> bytes:
    return _op(_LOAD, 16 + 8 * number + 4 * high)


def _fail(number: int) -> bytes:
    return _op(_RET, _ERRNO | number)


def _socket_rules() -> list[bytes]:
    """For socket(): families by list; internet sockets only of common protocols; netlink only for routes."""
    allow, refuse, unsupported = _op(_RET, _ALLOW), _fail(errno.EAFNOSUPPORT), _fail(errno.EPROTONOSUPPORT)
    internet = [_argument(2)]
    for protocol in _PROTOCOLS:
        internet += [_op(_JEQ, protocol, 0, 1), allow]
    internet.append(unsupported)
    netlink = [_argument(2), _op(_JEQ, 0, 0, 1), allow, unsupported]
    return [
        _argument(0),
        _op(_JEQ, _UNIX, 0, 1),
        allow,
        _op(_JEQ, _NETLINK, 0, len(netlink)),
        *netlink,
        _op(_JEQ, _INET, 1, 0),
        _op(_JEQ, _INET6, 0, len(internet)),
        *internet,
        refuse,
    ]


def program(machine: str | None = None, *, small_segments: bool = False) -> bytes:
    """The filter's bytes for `bwrap --seccomp`; KeyError on an architecture without a table. `small_segments` bounds
    shared memory segments: they outlive their processes, and only a control group counts them."""
    m = MACHINES[machine or platform.machine()]
    code = [_op(_LOAD, _ARCH), _op(_JEQ, m.audit, 1, 0), _op(_RET, _KILL), _op(_LOAD, _NR)]
    if m.audit == MACHINES["x86_64"].audit:
        code += [_op(_JSET, _X32, 0, 1), _op(_RET, _KILL)]
    code += [_op(_JEQ, _CLONE3, 0, 1), _fail(errno.ENOSYS), _op(_JGE, _NEWEST, 0, 1), _fail(errno.ENOSYS)]
    for number in m.denied:
        code += [_op(_JEQ, number, 0, 1), _fail(errno.EPERM)]
    clone = [_argument(0), _op(_JSET, _NAMESPACES, 0, 1), _fail(errno.EPERM), _op(_RET, _ALLOW)]
    pair = [_argument(0), _op(_JEQ, _UNIX, 0, 1), _op(_RET, _ALLOW), _fail(errno.EAFNOSUPPORT)]
    segment = [_argument(1, high=True), _op(_JEQ, 0, 1, 0), _fail(errno.ENOMEM), _argument(1)]
    segment += [_op(_JGE, _SEGMENT + 1, 0, 1), _fail(errno.ENOMEM), _op(_RET, _ALLOW)]
    terminal = [_argument(1)]
    for request in (_TIOCSTI, _TIOCLINUX, _TIOCSETD):
        terminal += [_op(_JEQ, request, 0, 1), _fail(errno.EPERM)]
    terminal.append(_op(_RET, _ALLOW))
    rules_of = {m.clone: clone, m.socket: _socket_rules(), m.socketpair: pair, m.ioctl: terminal}
    if small_segments:
        rules_of[m.shmget] = segment
    for number, rules in rules_of.items():
        code += [_op(_JEQ, number, 0, len(rules)), *rules]
    code.append(_op(_RET, _ALLOW))
    return b"".join(code)
