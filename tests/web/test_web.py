"""The exported pages over a real port: what a browser gets, and what it must never get."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from backend.kit import http as kit_http
from backend.web import mount_web


def write_build(out: Path, word: str = "first", *, stamp: int | None = None) -> None:
    """A small export of the shape that the front end's build leaves."""
    files = {
        "index.html": f"<p>home {word}</p>",
        "agents.html": "<p>agents</p>",
        "agents/_.html": "<p>one agent</p>",
        "agents/_.txt": "payload of one agent",
        "404.html": "<p>no such page</p>",
        "_next/static/chunks/main-1a2b.js": "console.log(1);" * 200,
        "icon.svg": "<svg/>",
        "routes.json": json.dumps([{"pattern": "/agents/[^/]+", "page": "/agents/_"}]),
    }
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    (out / "csp.json").write_text(
        json.dumps({"index.html": [f"sha256-{word}"], "agents/_.html": ["sha256-agent"]})
    )
    if stamp is not None:
        os.utime(out / "csp.json", (stamp, stamp))


@contextlib.asynccontextmanager
async def serving(out: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    kit_http.install(app)

    @app.get("/api/config")
    async def config() -> dict[str, str]:
        return {"version": "1"}

    mount_web(app, out)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        server.should_exit = True
        await running


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    write_build(tmp_path)
    async with serving(tmp_path) as client:
        yield client


async def test_a_page_is_served_with_the_hashes_of_its_own_scripts(web: httpx.AsyncClient) -> None:
    page = await web.get("/")
    assert page.status_code == 200
    assert "home first" in page.text
    assert "script-src 'self' 'sha256-first';" in page.headers["content-security-policy"]
    assert "'sha256-agent'" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["referrer-policy"] == "same-origin"


async def test_any_id_opens_the_page_that_stands_for_it(web: httpx.AsyncClient) -> None:
    for address in ("/agents/0198-ab", "/agents/some%20agent", "/agents/_"):
        page = await web.get(address)
        assert (page.status_code, page.text) == (200, "<p>one agent</p>"), address
    assert (await web.get("/agents")).text == "<p>agents</p>"
    payload = await web.get("/agents/0198-ab.txt?_rsc=1")
    assert payload.text == "payload of one agent"
    assert payload.headers["content-type"].startswith("text/x-component")


async def test_head_answers_as_get_does_without_a_body(web: httpx.AsyncClient) -> None:
    get, head = await web.get("/agents"), await web.head("/agents")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"]


async def test_hashed_assets_are_kept_for_good_and_pages_are_asked_for_again(web: httpx.AsyncClient) -> None:
    script = await web.get("/_next/static/chunks/main-1a2b.js")
    assert "immutable" in script.headers["cache-control"]
    assert script.headers["content-encoding"] == "gzip"
    assert script.text.startswith("console.log")
    page = await web.get("/agents")
    again = await web.get("/agents", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_an_unknown_address_gets_the_404_page(web: httpx.AsyncClient) -> None:
    page = await web.get("/no/such/page")
    assert (page.status_code, page.text) == (404, "<p>no such page</p>")
    assert "content-security-policy" in page.headers


async def test_a_program_gets_a_problem_instead_of_a_page(web: httpx.AsyncClient) -> None:
    assert (await web.get("/api/config")).json() == {"version": "1"}
    for address in ("/api/nothing", "/api", "/v1/models", "/_next/static/chunks/gone.js"):
        answer = await web.get(address)
        assert answer.status_code == 404, address
        assert answer.headers["content-type"] == "application/problem+json", address
    posted = await web.post("/agents")
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")


async def test_no_path_leads_out_of_the_build(web: httpx.AsyncClient, tmp_path: Path) -> None:
    secret = tmp_path.parent / "secret.txt"
    secret.write_text("secret")
    for address in (
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/agents/..%2f..%2fsecret.txt",
        "/csp.json",
        "/routes.json",
    ):
        answer = await web.get(address)
        assert "secret" not in answer.text, address
        assert "sha256-" not in answer.text, address


async def test_a_trailing_slash_leads_to_the_page_and_never_to_another_host(web: httpx.AsyncClient) -> None:
    moved = await web.get("/agents/?q=a%20b")
    assert (moved.status_code, moved.headers["location"]) == (308, "/agents?q=a%20b")
    elsewhere = await web.get(f"{web.base_url}//evil.example/")
    assert elsewhere.status_code == 404
    assert "location" not in elsewhere.headers


async def test_a_new_build_is_served_without_a_restart(tmp_path: Path) -> None:
    write_build(tmp_path, stamp=1_000)
    async with serving(tmp_path) as web:
        assert "home first" in (await web.get("/")).text
        write_build(tmp_path, "second", stamp=2_000)
        page = await web.get("/")
        assert "home second" in page.text
        assert "'sha256-second'" in page.headers["content-security-policy"]


async def test_while_a_build_is_being_written_the_last_whole_one_is_served(tmp_path: Path) -> None:
    write_build(tmp_path, stamp=1_000)
    async with serving(tmp_path) as web:
        await web.get("/")
        (tmp_path / "csp.json").unlink()
        (tmp_path / "index.html").unlink()
        assert "home first" in (await web.get("/")).text
        (tmp_path / "csp.json").write_text('{"half')
        assert "home first" in (await web.get("/")).text


async def test_without_a_build_the_page_says_how_to_make_one(tmp_path: Path) -> None:
    async with serving(tmp_path / "nothing") as web:
        page = await web.get("/threads")
        assert page.status_code == 503
        assert "npm run build" in page.text
        assert "script-src 'self';" in page.headers["content-security-policy"]
        assert (await web.get("/api/config")).status_code == 200
