"""The guard: what it lets out, and every disguise of a private address that we know."""

import asyncio
import gzip
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from backend.kit import egress

PUBLIC = "93.184.215.14"


@dataclass
class Site:
    """A web server on loopback."""

    port: int = 0
    seen: list[web.Request] = field(default_factory=list)

    @property
    def allowed(self) -> frozenset[str]:
        return frozenset({f"127.0.0.1:{self.port}"})

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        match request.path:
            case "/to":
                return web.Response(status=302, headers={"Location": request.query["url"]})
            case "/loop":
                return web.Response(status=307, headers={"Location": "/loop"})
            case "/big":
                return web.Response(body=b"x" * 300_000)
            case "/bomb":
                return web.Response(
                    body=gzip.compress(bytes(50_000_000)), headers={"Content-Encoding": "gzip"}
                )
            case "/slow":
                await asyncio.sleep(30)
        return web.Response(text="hello", headers={"X-Given": request.headers.get("X-Given", "")})


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", site.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.port = runner.addresses[0][1]
    yield site
    await runner.cleanup()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Names that the machine's look-up does not have: each look-up takes the next answer. Returns what was looked up."""

    def know(**answers: list[list[str]]) -> list[str]:
        asked: list[str] = []

        async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
            asked.append(host)
            name = host.partition(".")[0]
            addresses = answers[name].pop(0) if len(answers[name]) > 1 else answers[name][0]
            return [
                (socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port))
                for a in addresses
            ]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        return asked

    return know


# -- addresses

PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254", "172.16.0.1", "172.31.255.255",
    "192.0.0.1", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1", "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "fc00::1", "fd00:ec2::254",
    "fe80::1", "fec0::1", "ff02::1", "3fff::1", "5f00::1", "2606:4700::5efe:7f00:1", "fe80::1%eth0", "2606:4700::1%1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_off_the_public_internet_is_not_public(address: str) -> None:
    assert not egress.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        PUBLIC,
        "172.15.0.1",
        "172.32.0.1",
        "100.63.0.1",
        "100.128.0.1",
        "2606:4700::1111",
        "2a00::1",
        "64:ff9b::8.8.8.8",
    ],
)
def test_a_public_address_is_public(address: str) -> None:
    assert egress.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Example.COM.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("1.2.3", "1.2.0.3"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0X7F.1", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("0x", "0.0.0.0"),
        ("127.0.0.1.", "127.0.0.1"),
        ("１２７.０.０.１", "127.0.0.1"),
        ("127。0。0。1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[::ffff:127.0.0.1]", str(ipaddress.ip_address("::ffff:7f00:1"))),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("1.2.3.4.example", "1.2.3.4.example"),
    ],
)
def test_a_host_has_one_normal_form(written: str, meant: str) -> None:
    assert egress.host_of(written) == meant


@pytest.mark.parametrize(
    "host",
    ["",
        ".",
        "a..b",
        "256.0.0.1",
        "1.2.3.4.5",
        "08.0.0.1",
        "4294967296",
        "1.2.3.0x1000000",
        "a b",
        "a/b",
        "a@b",
        "a\tb",
        "a%00b",
        "a\0b", "x" * 64 + ".com",
        "[::1",
        "[fe80::1%eth0]x",
        "[nonsense]",
        "::1]",
        "a[::1]",
        "[[::1]]",
        "foo.0x7f",
        "-" * 300,
        "exam\u0000ple.com",
        "a:b"],
)  # fmt: skip
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(egress.UnsafeURL):
        egress.host_of(host)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/", "file:///etc/passwd", "gopher://example.com", "javascript:alert(1)", "data:text/plain,x", "//example.com", "example.com",
        "http://", "http:///path", "http://user@example.com/", "http://user:word@example.com/", "http://@example.com/", "http://example.com\\@127.0.0.1/",
        "http://example.com:0/", "http://example.com:99999/", "http://exa mple.com/", "http://example.com/\r\nHost: evil", "http://example.com\t/",
        "http://127.0.0.1#@example.com\n/", "http://[::1/", "http://1.2.3.4.5/", "ws://example.com/", "",
    ],
)  # fmt: skip
def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    with pytest.raises(egress.UnsafeURL):
        egress.parse_url(url)


def test_a_web_address_is_parsed_to_its_normal_form() -> None:
    assert str(egress.parse_url("HTTPS://Example.com./a?b=c#d")) == "https://example.com/a?b=c#d"
    assert egress.parse_url("http://2130706433/x").host == "127.0.0.1"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "[::ffff:10.0.0.1]", "169.254.169.254", "0x7f.1", "[::1]"]
)
def test_a_private_address_in_figures_is_refused_when_it_is_saved(host: str) -> None:
    with pytest.raises(egress.PrivateAddress):
        egress.check_url(f"http://{host}:8080/")


def test_only_the_named_port_of_a_private_target_is_let_through() -> None:
    allowed = frozenset({"127.0.0.1:11434", "[::1]:11434"})
    assert egress.check_url("http://127.0.0.1:11434/api", allowed).port == 11434
    assert egress.check_url("http://[::1]:11434/api", allowed).port == 11434
    for url in ("http://127.0.0.1:11435/", "http://127.0.0.2:11434/", "http://127.0.0.1/"):
        with pytest.raises(egress.PrivateAddress):
            egress.check_url(url, allowed)


def test_this_machines_own_addresses_are_known() -> None:
    assert egress.is_this_machine(ipaddress.ip_address("127.0.0.1"))
    assert not egress.is_this_machine(ipaddress.ip_address(PUBLIC))


# -- connecting


async def test_every_address_of_a_name_must_be_public(names: Callable[..., list[str]]) -> None:
    names(
        good=[[PUBLIC, "2606:4700::1111"]],
        mixed=[[PUBLIC, "10.0.0.1"]],
        mapped=[["::ffff:127.0.0.1"]],
        none=[[]],
    )
    assert await egress.resolve(egress.Target("good.test", 443)) == [PUBLIC, "2606:4700::1111"]
    for host in ("mixed.test", "mapped.test"):
        with pytest.raises(egress.PrivateAddress):
            await egress.resolve(egress.Target(host, 443))
    with pytest.raises(egress.NoSuchHost):
        await egress.resolve(egress.Target("none.test", 443))


async def test_a_connection_is_made_with_one_look_up_to_the_checked_address(
    site: Site, names: Callable[..., list[str]]
) -> None:
    asked = names(inner=[["127.0.0.1"], ["10.9.8.7"]])
    allowed = frozenset({f"inner.test:{site.port}"})
    reader, writer = await egress.open_connection("inner.test", site.port, private_targets=allowed)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert (await reader.read()).endswith(b"hello")
    writer.close()
    assert asked == ["inner.test"]


async def test_a_name_that_turns_private_is_refused(site: Site, names: Callable[..., list[str]]) -> None:
    names(rebinding=[[PUBLIC], ["127.0.0.1"]])
    assert await egress.resolve(egress.Target("rebinding.test", site.port)) == [PUBLIC]
    with pytest.raises(egress.PrivateAddress):
        await egress.open_connection("rebinding.test", site.port)
    assert site.seen == []


async def test_a_host_that_does_not_answer_is_an_error_and_not_a_wait(site: Site) -> None:
    with pytest.raises(OSError):
        await egress.open_connection("127.0.0.1", 1, private_targets=frozenset({"127.0.0.1:1"}))
    with pytest.raises(egress.NoSuchHost):
        await egress.open_connection("no-such-host.invalid", 80)


# -- aiohttp


async def session_get(url: str, allowed: frozenset[str]) -> str:
    async with (
        aiohttp.ClientSession(connector=egress.GuardedConnector(allowed)) as session,
        session.get(url) as response,
    ):
        return await response.text()


async def test_a_session_behind_the_guard_reaches_an_allowed_target(site: Site) -> None:
    assert await session_get(site.url(), site.allowed) == "hello"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "localhost."]
)
async def test_a_session_behind_the_guard_reaches_nothing_private(site: Site, host: str) -> None:
    with pytest.raises(egress.PrivateAddress):
        await session_get(site.url(host=host), frozenset())
    with pytest.raises(egress.PrivateAddress):
        await session_get(site.url(host=host), frozenset({"127.0.0.1:1"}))
    assert site.seen == []


async def test_a_sessions_redirects_are_checked_too(site: Site) -> None:
    for target in (
        "http://localhost:80/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/latest/",
    ):
        with pytest.raises(egress.PrivateAddress):
            await session_get(site.url(f"/to?url={target}"), site.allowed)


async def test_a_session_uses_the_addresses_that_were_checked(
    site: Site, names: Callable[..., list[str]]
) -> None:
    asked = names(inner=[["127.0.0.1"], ["10.9.8.7"]], rebinding=[["127.0.0.1"]])
    allowed = frozenset({f"inner.test:{site.port}"})
    assert await session_get(site.url(host="inner.test"), allowed) == "hello"
    assert asked == ["inner.test"]
    with pytest.raises(egress.PrivateAddress):
        await session_get(site.url(host="rebinding.test"), allowed)


async def test_a_session_behind_the_guard_refuses_a_proxy(site: Site) -> None:
    async with aiohttp.ClientSession(connector=egress.GuardedConnector(site.allowed)) as session:
        with pytest.raises(egress.UnsafeURL):
            await session.get(site.url(), proxy=site.url())
        with pytest.raises(egress.UnsafeURL):
            await session.get("ws://127.0.0.1:1/")


# -- fetching


async def test_a_page_is_fetched_through_redirects(site: Site) -> None:
    page = await egress.fetch(
        site.url("/to?url=/page"), private_targets=site.allowed, headers={"X-Given": "mine"}
    )
    assert (page.status, page.body, page.url) == (200, b"hello", site.url("/page"))
    assert page.headers["x-given"] == "mine"


async def test_headers_do_not_follow_to_another_host(site: Site) -> None:
    allowed = site.allowed | {f"localhost:{site.port}"}
    page = await egress.fetch(
        site.url(f"/to?url={site.url('/page', 'localhost')}"),
        private_targets=allowed,
        headers={"X-Given": "mine"},
    )
    assert page.status == 200 and page.headers["x-given"] == ""


@pytest.mark.parametrize(
    "target",
    ["http://localhost/", "http://10.0.0.1/", "http://2130706433/", "//[::1]/", "http://169.254.169.254/"],
)
async def test_a_redirect_to_something_private_is_refused(site: Site, target: str) -> None:
    with pytest.raises(egress.PrivateAddress):
        await egress.fetch(site.url(f"/to?url={target}"), private_targets=site.allowed)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.com/", "http://a@example.com/"])
async def test_a_redirect_to_something_strange_is_refused(site: Site, target: str) -> None:
    with pytest.raises(egress.UnsafeURL):
        await egress.fetch(site.url(f"/to?url={target}"), private_targets=site.allowed)


async def test_size_time_and_redirects_have_an_end(site: Site) -> None:
    with pytest.raises(egress.TooManyRedirects):
        await egress.fetch(site.url("/loop"), private_targets=site.allowed)
    with pytest.raises(egress.AnswerTooLarge):
        await egress.fetch(site.url("/big"), private_targets=site.allowed, max_bytes=100_000)
    with pytest.raises(egress.AnswerTooLarge):
        await egress.fetch(site.url("/bomb"), private_targets=site.allowed, max_bytes=100_000)
    with pytest.raises(egress.TooSlow):
        await egress.fetch(site.url("/slow"), private_targets=site.allowed, timeout=0.2)
