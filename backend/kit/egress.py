"""The one way out to the network: for the sandbox's proxy, for model providers, for everything that takes an address
from a person, a model or a web page.

A host is looked up once, every address it has must be a public one, and the connection goes to an address that was
checked. Private targets are let through only when an administrator named them, as `host:port`.
"""

import asyncio
import functools
import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.tracing import Trace
from yarl import URL

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
NOTHING_PRIVATE: frozenset[str] = frozenset()


class EgressRefused(Exception):
    """This address may not be reached from here."""


class UnsafeURL(EgressRefused):
    """Not an http or https address that can be checked."""


class PrivateAddress(EgressRefused):
    """The host is not on the public internet."""


class NoSuchHost(EgressRefused):
    """The host's name has no address."""


class TooManyRedirects(EgressRefused):
    """The address redirects too often."""


class AnswerTooLarge(EgressRefused):
    """The answer is larger than allowed."""


class TooSlow(EgressRefused):
    """The host did not answer in time."""


_NOT_PUBLIC_4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        "168.63.129.16/32",  # a cloud's internal address
    )
)
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "2620:4f:8000::/48",
        "3fff::/20",
        "3ffe::/16",
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")


@dataclass(frozen=True)
class Target:
    """Where a connection goes: a normal host name (ASCII, no trailing dot) or an address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet; one that carries an IPv4 address inside is judged by that too."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if (int(address) >> 32) & 0xFFFFFFFF in (0x00005EFE, 0x02005EFE):  # ISATAP
        return False
    # 6to4, Teredo, mapped and compatible forms lie outside what is left and are refused whatever they carry.
    return address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)


def host_of(text: str) -> str:
    """A host in its one normal form. Numbers in any notation (decimal, octal, hex, short) become the address that they
    mean; other scripts become punycode. Raises UnsafeURL."""
    host = text
    if ":" in host or "[" in host:
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        try:
            return str(ipaddress.IPv6Address(bare))
        except ValueError:
            raise UnsafeURL(f"{text!r} is not an IPv6 address") from None
    try:
        host = host.encode("ascii").decode() if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise UnsafeURL(f"{text!r} is not a host name") from None
    host = host.lower().rstrip(".")
    if not host or len(host) > 253 or not re.fullmatch(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", host):
        raise UnsafeURL(f"{text!r} is not a host name")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return str(_any_ipv4(host))
    return host


def _any_ipv4(host: str) -> ipaddress.IPv4Address:
    """What a host that ends in a number means to a browser or to inet_aton."""
    parts = host.split(".")
    values = []
    for part in parts:
        if not _NUMBER.fullmatch(part):
            raise UnsafeURL(f"{host!r} is neither a name nor an address")
        base = 16 if part[:2] in ("0x", "0X") else 8 if part.startswith("0") and part != "0" else 10
        try:
            values.append(int(part[2:] or "0", 16) if base == 16 else int(part, base))
        except ValueError:
            raise UnsafeURL(f"{host!r} is neither a name nor an address") from None
    if len(values) > 4 or any(value > 255 for value in values[:-1]) or values[-1] >= 256 ** (5 - len(values)):
        raise UnsafeURL(f"{host!r} is not an IPv4 address")
    number = values[-1]
    for place, value in enumerate(values[:-1]):
        number += value << (8 * (3 - place))
    return ipaddress.IPv4Address(number)


def target_of(host: str, port: int) -> Target:
    """A checked host and port. Raises UnsafeURL."""
    if not 0 < port < 65536:
        raise UnsafeURL(f"{port} is not a port")
    return Target(host_of(host), port)


def parse_url(text: str | URL) -> URL:
    """An http or https address without tricks: no user names, no control characters, no backslashes. Raises UnsafeURL."""
    return _parsed(str(text))


@functools.lru_cache(maxsize=1024)  # of what is asked for again and again: models, above all
def _parsed(raw: str) -> URL:
    if re.search(r"[\x00-\x20\x7f\\]", raw):
        raise UnsafeURL("an address holds no spaces, control characters or backslashes")
    try:
        url = URL(raw)
        port = url.port
    except ValueError as error:
        raise UnsafeURL(f"{raw[:200]!r} is not an address: {error}") from None
    if url.scheme not in ("http", "https") or not url.raw_host or port is None:
        raise UnsafeURL(f"{raw[:200]!r} is not an http or https address")
    if "@" in re.split(r"[/?#]", raw.partition("//")[2], maxsplit=1)[0]:
        raise UnsafeURL("an address carries no user name or password")
    return url.with_host(target_of(url.raw_host, port).host)


def check_url(text: str | URL, private_targets: frozenset[str] = NOTHING_PRIVATE) -> URL:
    """`parse_url`, and an address written as numbers must be public. For checks when something is saved: names are
    looked up only when connecting. Raises EgressRefused."""
    url = parse_url(text)
    assert url.raw_host is not None and url.port is not None  # parse_url has seen to it
    literal = _literal(url.raw_host)
    if literal is not None:
        _require_public(Target(url.raw_host, url.port), [literal], private_targets)
    return url


async def resolve(
    target: Target, private_targets: frozenset[str] = NOTHING_PRIVATE, timeout: float = 10.0
) -> list[str]:
    """The addresses of a host, looked up once, all of them checked. Raises EgressRefused."""
    literal = _literal(target.host)
    if literal is not None:
        addresses = [literal]
    else:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise TooSlow(f"looking up {target.host} took too long") from None
        except (OSError, UnicodeError):
            raise NoSuchHost(f"{target.host} cannot be found") from None
        addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
        if not addresses:
            raise NoSuchHost(f"{target.host} cannot be found")
    _require_public(target, addresses, private_targets)
    return list(dict.fromkeys(map(str, addresses)))


async def open_connection(
    host: str,
    port: int,
    *,
    private_targets: frozenset[str] = NOTHING_PRIVATE,
    timeout: float = 10.0,
    limit: int = 65536,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TCP connection to a host, to an address that was checked. Raises EgressRefused, or OSError when none answers."""
    target = target_of(host, port)
    failure: Exception = TooSlow(f"{target} does not answer")
    for address in await resolve(target, private_targets, timeout):
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.open_connection(address, port, limit=limit)
        except TimeoutError:
            failure = TooSlow(f"{target} does not answer")
        except OSError as error:
            failure = error
    raise failure


class _Resolver(AbstractResolver):
    """aiohttp's look-up, with every address checked; remembers which private ones an administrator allows."""

    def __init__(self, private_targets: frozenset[str]) -> None:
        self._private_targets = private_targets
        self.allowed: set[tuple[str, int]] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        target = target_of(host, port)
        addresses = await resolve(target, self._private_targets)
        if str(target) in self._private_targets:
            self.allowed |= {(address, port) for address in addresses}
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


class GuardedConnector(aiohttp.TCPConnector):
    """aiohttp's connector behind the guard: give it to a ClientSession and every request and redirect of that session
    is checked. What is refused raises EgressRefused out of the request. Environment proxies are not followed."""

    def __init__(
        self, private_targets: frozenset[str] = NOTHING_PRIVATE, *, limit: int = 100, limit_per_host: int = 0
    ) -> None:
        self._private_targets = private_targets
        self._guard = _Resolver(private_targets)
        super().__init__(
            resolver=self._guard, limit=limit, limit_per_host=limit_per_host, socket_factory=self._socket
        )

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> "aiohttp.connector.Connection":
        """Check the request's address before a pooled or new connection is used for it."""
        if req.proxy is not None:
            raise UnsafeURL("requests through a proxy cannot be checked")
        url = check_url(req.url.with_user(None), self._private_targets)
        if (
            _literal(url.raw_host or "") is not None
            and str(Target(url.raw_host or "", url.port or 0)) in self._private_targets
        ):
            self._guard.allowed.add((url.raw_host or "", url.port or 0))
        return await super().connect(req, traces, timeout)

    def _socket(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        """The last gate: whatever was decided before, no socket is made for an address that was not checked."""
        family, kind, protocol, _, address = info
        host, port = str(address[0]), int(str(address[1]))
        if (host, port) not in self._guard.allowed and not is_public(ipaddress.ip_address(host)):
            raise PrivateAddress(f"{host} is not on the public internet")
        return socket.socket(family, kind, protocol)


@dataclass(frozen=True)
class Fetched:
    """An answer, whole: the address it finally came from, its status, headers (names in lower case) and body."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


async def fetch(
    url: str,
    *,
    private_targets: frozenset[str] = NOTHING_PRIVATE,
    headers: Mapping[str, str] | None = None,
    max_bytes: int = 2 * 1024 * 1024,
    timeout: float = 20.0,
    max_redirects: int = 5,
) -> Fetched:
    """GET an address; every redirect is checked as the first address was. Size is counted after decompression, time
    over all hops. Headers are not sent on to another host. Raises EgressRefused, or aiohttp.ClientError."""
    at = check_url(url, private_targets)
    first = at.origin()
    try:
        async with (
            asyncio.timeout(timeout),
            aiohttp.ClientSession(
                connector=GuardedConnector(private_targets), cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
        ):
            for _ in range(max_redirects + 1):
                sent = dict(headers or {}) if at.origin() == first else {}
                async with session.get(at, headers=sent, allow_redirects=False) as response:
                    location = response.headers.get("Location")
                    if response.status in (301, 302, 303, 307, 308) and location:
                        at = check_url(at.join(URL(location)), private_targets)
                        continue
                    return Fetched(
                        str(at), response.status, _lower(response.headers), await _body(response, max_bytes)
                    )
            raise TooManyRedirects(f"{url} redirects more than {max_redirects} times")
    except TimeoutError:
        raise TooSlow(f"{url} took longer than {timeout:g} seconds") from None


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


async def _body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_chunked(65536):
        body += piece
        if len(body) > limit:
            raise AnswerTooLarge(f"the answer is larger than {limit} bytes")
    return bytes(body)


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _require_public(target: Target, addresses: list[Address], private_targets: frozenset[str]) -> None:
    if str(target) in private_targets:
        return
    for address in addresses:
        if not is_public(address):
            raise PrivateAddress(f"{target.host} is not on the public internet ({address})")
        if is_this_machine(address):
            raise PrivateAddress(f"{target.host} is this machine ({address})")


def is_this_machine(address: Address) -> bool:
    """Whether an address is one of this machine's own: behind a public one its inner services are reachable too."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
