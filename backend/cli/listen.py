"""The one address: a socket that the supervisor binds and the api processes share."""

import contextlib
import errno
import ipaddress
import socket

from backend.cli.errors import Failure


class PortTaken(Failure):
    """The port that was asked for is in use."""


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to `host` and `port` (0: any). Raises `PortTaken`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(f"Port {port} on {host} is in use by another program; choose another with --port.") from None
        raise
    return bound


def bind_near(host: str, port: int) -> socket.socket:
    """A socket on `port`, or on the next free one of the hundred after it."""
    for candidate in range(port, min(port + 100, 65536)):
        with contextlib.suppress(PortTaken):
            return bind(host, candidate)
    raise PortTaken(f"Ports {port} to {port + 99} on {host} are all in use; choose one with --port.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what is bound to `host`."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def url_of(bound: socket.socket) -> str:
    """The address a browser on this machine uses."""
    host, port = bound.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
