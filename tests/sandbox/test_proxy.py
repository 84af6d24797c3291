"""A box's way to the network: the proxy's policy and the guard behind it, tried from inside."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from backend.kit.egress import Target
from backend.sandbox.bubblewrap import Box, Bubblewrap
from backend.sandbox.protocol import Network
from backend.sandbox.proxy import Decision, permits
from tests.sandbox.conftest import new_spec

FETCH = """
import json, sys, urllib.error, urllib.request
answers = []
for url in sys.argv[1:]:
    try:
        with urllib.request.urlopen(url, timeout=20) as response:
            answers.append([response.status, response.read(500).decode()])
    except urllib.error.HTTPError as error:
        answers.append([error.code, error.read(500).decode()])
    except OSError as error:
        answers.append([0, str(error)])
print(json.dumps(answers))
"""


@dataclass
class Upstream:
    """A web server on the machine's loopback that remembers what it was asked."""

    port: int = 0
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            length = next(
                (
                    int(line.split(":")[1])
                    for line in head.split("\r\n")
                    if line.lower().startswith("content-length")
                ),
                0,
            )
            self.bodies.append(await reader.readexactly(length))
            if head.startswith("GET /redirect"):
                answer = "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n"
            elif head.startswith("GET /rest"):
                self.bodies.append(await asyncio.wait_for(reader.read(), 5))
                answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            else:
                answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
            writer.write(answer.encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    yield upstream
    server.close()
    await server.wait_closed()


@dataclass
class Connected:
    """A box with a network, what its proxy decided, and a fetcher inside."""

    box: Box
    decisions: list[Decision]

    async def fetch(self, *urls: str) -> list[tuple[int, str]]:
        result = await self.box.exec(["/usr/bin/python3", "-c", FETCH, *urls], timeout=60)
        assert result.exit_code == 0, result.stderr.text()
        return [(status, text) for status, text in json.loads(result.stdout.text())]

    async def talk(self, request: bytes) -> bytes:
        """Raw bytes to the proxy and all it answers."""
        script = "import socket, sys; s = socket.create_connection(('127.0.0.1', 3128)); s.sendall(sys.stdin.buffer.read())\nwhile d := s.recv(65536): sys.stdout.buffer.write(d)"
        result = await self.box.exec(["/usr/bin/python3", "-c", script], stdin=request, timeout=60)
        return result.stdout.head


async def connected(root: Path, network: Network, private: frozenset[str]) -> Connected:
    decisions: list[Decision] = []
    driver = Bubblewrap(
        root / "proxied",
        private_targets=private,
        on_decision=lambda workspace, decision: decisions.append(decision),
    )
    return Connected(await driver.open(new_spec(network=network)), decisions)


@pytest.fixture
async def listed(root: Path, upstream: Upstream) -> AsyncIterator[Connected]:
    """May reach the upstream by its name only, which an administrator has allowed although it is private."""
    target = f"localhost:{upstream.port}"
    box = await connected(root, Network("allowlist", frozenset({target})), frozenset({target}))
    yield box
    await box.box.close()


@pytest.fixture
async def opened(root: Path) -> AsyncIterator[Connected]:
    box = await connected(root, Network("open"), frozenset())
    yield box
    await box.box.close()


async def test_an_allowed_host_is_reached_and_heard_of(listed: Connected, upstream: Upstream) -> None:
    assert await listed.fetch(f"http://localhost.:{upstream.port}/page?q=1") == [(200, "hello")]
    assert upstream.heads[0].startswith("GET /page?q=1 HTTP/1.1\r\nHost: localhost:")
    assert listed.decisions == [Decision("localhost", upstream.port, True)]


async def test_a_tunnel_is_opened_to_an_allowed_host(listed: Connected, upstream: Upstream) -> None:
    request = f"CONNECT localhost:{upstream.port} HTTP/1.1\r\nHost: x\r\n\r\nGET /tunnelled HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await listed.talk(request.encode())
    assert answer.startswith(b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK")
    assert upstream.heads[0].startswith("GET /tunnelled")


async def test_other_hosts_are_refused_with_the_host_and_what_to_do(
    listed: Connected, upstream: Upstream
) -> None:
    [(status, text)] = await listed.fetch("http://example.com/")
    assert status == 403
    assert "example.com:80 is not on this sandbox's allow-list" in text and "owner can add" in text
    answer = await listed.talk(f"GET http://127.0.0.1:{upstream.port}/ HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403") and upstream.heads == []
    assert [d.allowed for d in listed.decisions] == [False, False]
    answer = await listed.talk(b"CONNECT example.com:443 HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403") and b"example.com:443" in answer


async def test_an_open_network_is_still_closed_to_everything_private(
    opened: Connected, upstream: Upstream
) -> None:
    port = upstream.port
    hosts = [
        "127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "0.0.0.0", "[::1]", "[::]",
        "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]", "127.0.0.1.",
        "169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "192.168.1.1", "100.64.0.1", "[fe80::1]", "[fc00::1]", "224.0.0.1",
    ]  # fmt: skip
    for host in hosts:
        for request in (
            f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n",
            f"GET http://{host}:{port}/ HTTP/1.1\r\n\r\n",
        ):
            answer = await opened.talk(request.encode())
            assert answer.startswith(b"HTTP/1.1 403"), (host, answer)
    assert upstream.heads == []
    assert not any(decision.allowed for decision in opened.decisions)


async def test_a_redirect_into_the_private_network_is_refused(listed: Connected, upstream: Upstream) -> None:
    [(status, text)] = await listed.fetch(f"http://localhost.:{upstream.port}/redirect")
    assert status == 403 and "169.254.169.254" in text


async def test_without_the_proxy_an_open_network_reaches_nothing(
    opened: Connected, upstream: Upstream
) -> None:
    script = f"import socket\nfor a in (('127.0.0.1', {upstream.port}), ('1.1.1.1', 443)):\n try: socket.create_connection(a, 3); print('reached')\n except OSError as e: print('closed')"
    result = await opened.box.exec(["/usr/bin/python3", "-c", script])
    assert result.stdout.text() == "closed\nclosed\n"


async def test_a_request_carries_the_checked_host_and_nothing_behind_it(
    listed: Connected, upstream: Upstream
) -> None:
    smuggled = b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    head = f"POST http://localhost:{upstream.port}/rest HTTP/1.1\r\nHost: evil.example\r\nProxy-Authorization: x\r\nContent-Length: 4\r\n\r\nbody"
    await listed.talk(head.encode() + smuggled)
    assert len(upstream.heads) == 1
    assert "evil" not in upstream.heads[0] and "Proxy-Authorization" not in upstream.heads[0]
    assert "Connection: close" in upstream.heads[0]
    assert upstream.bodies[0] == b"body"


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"GET https://example.com/ HTTP/1.1\r\n\r\n",
        b"GET file:///etc/passwd HTTP/1.1\r\n\r\n",
        b"GET http://user@example.com/ HTTP/1.1\r\n\r\n",
        b"CONNECT example.com HTTP/1.1\r\n\r\n",
        b"CONNECT example.com:0 HTTP/1.1\r\n\r\n",
        b"CONNECT example.com:99999 HTTP/1.1\r\n\r\n",
        b"POST http://example.com/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST http://example.com/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST http://example.com/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET http://example.com/ HTTP/1.1\r\nA: b\nHost: evil\r\n\r\n",
        b"GET http://example.com/" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_proper_request_is_refused(opened: Connected, request_: bytes) -> None:
    answer = await opened.talk(request_)
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 411")
    assert not any(decision.allowed for decision in opened.decisions)


async def test_the_proxy_ends_with_its_box(listed: Connected, upstream: Upstream) -> None:
    tunnel = await listed.box.spawn(
        [
            "/usr/bin/python3",
            "-c",
            f"import socket; s = socket.create_connection(('127.0.0.1', 3128)); s.sendall(b'CONNECT localhost:{upstream.port} HTTP/1.1\\r\\n\\r\\n'); print(s.recv(99), flush=True); s.recv(99)",
        ]
    )
    while b"200" not in (await listed.box.logs(tunnel)).data:
        pass
    await listed.box.close()


@pytest.mark.parametrize(
    ("entry", "host", "port", "allowed"),
    [
        ("example.com", "example.com", 443, True),
        ("example.com", "example.com", 80, True),
        ("example.com", "example.com", 22, False),
        ("example.com:22", "example.com", 22, True),
        ("example.com:22", "example.com", 443, False),
        ("Example.COM.", "example.com", 443, True),
        ("example.com", "www.example.com", 443, False),
        ("example.com", "badexample.com", 443, False),
        ("example.com", "example.com.evil.org", 443, False),
        ("*.example.com", "www.example.com", 443, True),
        ("*.example.com", "a.b.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("*.example.com", "badexample.com", 443, False),
        ("*.example.com:8443", "www.example.com", 8443, True),
        ("[2606:4700::1111]", "2606:4700::1111", 443, True),
        ("[2606:4700::1111]:53", "2606:4700::1111", 53, True),
        ("*", "example.com", 443, False),
        ("", "example.com", 443, False),
    ],
)
def test_entries_of_an_allow_list_mean_exactly_what_they_say(
    entry: str, host: str, port: int, allowed: bool
) -> None:
    assert permits(Network("allowlist", frozenset({entry})), Target(host, port)) is allowed


def test_an_open_network_sends_no_mail() -> None:
    assert permits(Network("open"), Target("example.com", 8080))
    assert not permits(Network("open"), Target("example.com", 25))
    assert not permits(Network(), Target("example.com", 443))
