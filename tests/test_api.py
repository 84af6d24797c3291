"""The API process: its edge, its problems, its health, what it does when a part is gone."""

import json
import shutil
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from backend.api import UnguardedRole, create_app
from backend.kit.settings import Settings
from tests.conftest import Servers
from tests.people import Person, add_person, browser, signed_in
from tests.product import Spawn, Started

REBOUND = "evil.example"


@pytest.fixture
async def person(servers: Servers, clean: None) -> Person:
    return await add_person(servers.admin_dsn)


@pytest.fixture
async def page(server: Started, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    """A browser with a session, that has to say by itself where a request comes from."""
    async with signed_in(server.url, person) as client:
        del client.headers["Sec-Fetch-Site"]
        yield client


# The edge ---------------------------------------------------------------------------------------------------------------


async def test_every_answer_has_a_request_id_and_takes_over_a_sane_one(server: Started) -> None:
    async with browser(server.url) as client:
        made = await client.get("/health/live")
        kept = await client.get("/api/nothing", headers={"X-Request-Id": "trace-1.a_b"})
        odd = await client.get("/health/live", headers={"X-Request-Id": "x" * 65})
        injected = await client.get("/health/live", headers={"X-Request-Id": 'a"b'})
    assert len(made.headers["X-Request-Id"]) == 32
    assert kept.headers["X-Request-Id"] == kept.json()["request_id"] == "trace-1.a_b"
    assert len(odd.headers["X-Request-Id"]) == len(injected.headers["X-Request-Id"]) == 32


async def test_what_is_not_there_is_a_problem_too(server: Started) -> None:
    async with browser(server.url) as client:
        missing = await client.get("/api/nothing")
    assert missing.status_code == missing.json()["status"] == 404
    assert missing.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "request_id"} <= missing.json().keys()


async def test_a_name_that_is_not_ours_gets_nothing(server: Started) -> None:
    async with browser(server.url) as client:
        for path in ("/api/config", "/", "/metrics"):
            answer = await client.get(path, headers={"Host": REBOUND})
            assert answer.status_code == 421
            assert answer.json()["setting"] == "VIBE_PUBLIC_URL"
        for host in ("localhost:1234", "127.0.0.1", "[::1]:99", "127.9.9.9", "app.localhost"):
            assert (await client.get("/api/config", headers={"Host": host})).status_code == 200


async def test_the_public_url_is_ours(spawn: Spawn, person: Person) -> None:
    api = spawn.api(VIBE_PUBLIC_URL="https://vibe.example.org/")
    async with browser(api.url) as client:
        ours = await client.get("/api/config", headers={"Host": "vibe.example.org"})
        other = await client.get("/api/config", headers={"Host": REBOUND})
    assert [ours.status_code, other.status_code] == [200, 421]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Sec-Fetch-Site": "none"}, 201),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "SELF"}, 201),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "SELF"}, 403),
        ({}, 403),
    ],
)
async def test_another_site_cannot_use_the_cookie(
    page: httpx.AsyncClient, server: Started, headers: dict[str, str], status: int
) -> None:
    told = {name: server.url if value == "SELF" else value for name, value in headers.items()}
    answer = await page.post("/api/agents", json={"config": {"name": "A"}}, headers=told)
    assert answer.status_code == status
    assert (await page.get("/api/agents", headers=told)).status_code == 200


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
async def test_with_a_cookie_only_json_is_taken(page: httpx.AsyncClient, media_type: str) -> None:
    body = json.dumps({"config": {"name": "A"}})
    headers = {"Content-Type": media_type, "Sec-Fetch-Site": "same-origin"}
    assert (await page.post("/api/agents", content=body, headers=headers)).status_code == 415


async def test_another_site_cannot_sign_somebody_in(server: Started, person: Person) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        login = {"email": person.email, "password": "x"}
        answer = await client.post("/api/auth/login", json=login, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


async def test_a_body_that_is_too_large_is_refused_told_or_untold(page: httpx.AsyncClient) -> None:
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    told = await page.post("/api/agents/validate", content=b"x" * 9_000_000, headers=headers)
    untold = await page.post("/api/agents/validate", content=pieces(), headers=headers)
    assert [told.status_code, untold.status_code] == [413, 413]
    assert told.json()["title"] == "Too large"


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b'"\\ud800"', b"[1]", b""])
async def test_a_body_that_is_not_json_is_a_422(page: httpx.AsyncClient, body: bytes) -> None:
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
    answer = await page.post("/api/agents/validate", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_characters_that_postgres_cannot_hold_are_the_callers_fault(page: httpx.AsyncClient) -> None:
    headers = {"Sec-Fetch-Site": "same-origin"}
    for name in ("a\0b", "\ud800"):
        body = json.dumps({"config": {"name": name}})
        answer = await page.post(
            "/api/agents", content=body, headers=headers | {"Content-Type": "application/json"}
        )
        assert answer.status_code in (400, 422), answer.text


async def test_ids_that_are_not_ids_are_not_found(page: httpx.AsyncClient) -> None:
    for path in (
        "/api/agents/x",
        "/api/agents/00000000-0000-7000-8000-000000000000",
        "/api/agents/x/versions/1",
    ):
        assert (await page.get(path)).status_code == 404


async def test_what_the_api_says_is_not_kept_by_anybody(page: httpx.AsyncClient) -> None:
    answer = await page.get("/api/auth/me")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


# The document -----------------------------------------------------------------------------------------------------------


def test_the_openapi_document_is_good_enough_to_generate_a_client_from() -> None:
    document = create_app(Settings(_env_file=None)).openapi()
    seen = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["operationId"] not in seen, where
            seen.add(operation["operationId"])
            for status, response in operation["responses"].items():
                if status.startswith("2") and status != "204":
                    content = response["content"]
                    assert content and all(
                        one.get("schema") or kind in ("text/plain", "*/*") for kind, one in content.items()
                    ), where
            if path.startswith("/api"):
                assert "422" in operation["responses"] and "503" in operation["responses"], where
                assert "application/problem+json" in operation["responses"]["422"]["content"], where


def test_every_route_but_those_before_signing_in_says_401() -> None:
    document = create_app(Settings(_env_file=None)).openapi()
    open_routes = {
        f"{method} {path}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "401" not in operation["responses"]
    }
    assert open_routes == {
        "get /api/config", "post /api/auth/setup", "post /api/auth/sign-up", "post /api/auth/invitations/read",
        "post /api/auth/magic-link", "get /api/auth/oauth/{provider}", "get /api/auth/callback",
        "post /auth/v1/signup", "post /auth/v1/token", "post /auth/v1/recover", "post /auth/v1/verify",
        "get /auth/v1/settings", "get /auth/v1/.well-known/jwks.json",
        "get /health/live", "get /health/ready",
    }  # fmt: skip


# Health -----------------------------------------------------------------------------------------------------------------


def parts(answer: httpx.Response) -> dict[str, bool]:
    return {part["name"]: part["ok"] for part in answer.json()["parts"]}


async def test_ready_names_every_part(server: Started) -> None:
    async with browser(server.url) as client:
        answer = await client.get("/health/ready")
    assert answer.status_code == 200 and answer.json()["ok"] is True
    assert parts(answer).keys() == {"database", "redis", "disk", "sandbox", "web"}
    assert all(part["detail"] and part["fix"] for part in answer.json()["parts"] if not part["ok"])


async def test_without_redis_ready_says_so_and_the_api_still_answers(spawn: Spawn, person: Person) -> None:
    api = spawn.api(REDIS_URL="redis://127.0.0.1:1/0")
    async with signed_in(api.url, person) as client:
        ready = await client.get("/health/ready")
        assert (
            ready.status_code == 503 and parts(ready)["redis"] is False and parts(ready)["database"] is True
        )
        assert (await client.post("/api/agents", json={"config": {"name": "A"}})).status_code == 201


async def test_a_full_disk_is_named_and_new_work_is_refused(
    spawn: Spawn, person: Person, servers: Servers
) -> None:
    free_mb = shutil.disk_usage(servers.data_dir).free // 1_000_000
    api = spawn.api(VIBE_MIN_FREE_MB=str(free_mb * 2))
    async with signed_in(api.url, person) as client:
        ready = await client.get("/health/ready")
        assert ready.status_code == 503 and parts(ready)["disk"] is False
        agent = (await client.post("/api/agents", json={"config": {"name": "A"}})).json()
        thread = (await client.post("/api/threads", json={"agent_id": agent["agent_id"]})).json()
        message = {"message_id": "00000000-0000-7000-8000-000000000001", "content": "hello"}
        run = await client.post(f"/api/threads/{thread['thread_id']}/runs", json={"message": message})
        assert run.status_code == 507 and run.json()["setting"] == "VIBE_MIN_FREE_MB"
        assert (await client.get(f"/api/threads/{thread['thread_id']}/messages")).json()["items"] == []


async def test_a_sandbox_that_is_turned_off_is_a_feature_with_its_reason(
    spawn: Spawn, person: Person
) -> None:
    api = spawn.api(VIBE_SANDBOX="off")
    async with signed_in(api.url, person) as client:
        config = (await client.get("/api/config")).json()
        assert config["features"]["sandbox"]["on"] is False and config["features"]["sandbox"]["fix"]
        ready = await client.get("/health/ready")
        assert ready.status_code == 200 and parts(ready)["sandbox"] is False
        tools = {tool["name"]: tool for tool in (await client.get("/api/tools")).json()}
        assert not tools["code_execution"]["on"] and tools["code_execution"]["reason"]
        agent = await client.post("/api/agents", json={"config": {"name": "A", "tools": ["code_execution"]}})
        assert [part["part"] for part in agent.json()["off"]] == ["tools.code_execution"]


async def test_metrics_count_routes_not_ids(page: httpx.AsyncClient) -> None:
    await page.get("/api/agents/00000000-0000-7000-8000-000000000000")
    text = (await page.get("/metrics")).text
    assert 'vibe_http_requests_total{method="GET",route="/api/agents/{agent_id}",status="404"}' in text
    assert "00000000-0000-7000" not in text
    assert "process_resident_memory_bytes" in text


async def test_a_role_that_sees_every_account_is_refused(servers: Servers, settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"database_url": SecretStr(servers.admin_dsn)}))
    with pytest.raises(UnguardedRole):
        async with app.router.lifespan_context(app):
            pass


async def test_while_postgres_is_away_the_answer_is_503_and_then_it_works_again(
    spawn: Spawn, servers: Servers, person: Person
) -> None:
    api = spawn.api()
    admin = await asyncpg.connect(servers.admin_dsn)
    database = await admin.fetchval("SELECT current_database()")
    async with signed_in(api.url, person) as client:
        try:
            await admin.execute(f"ALTER DATABASE {database} CONNECTION LIMIT 0")
            await admin.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'vibe_app'"
            )
            lost = await client.get("/api/auth/me")
            ready = await client.get("/health/ready")
            live = await client.get("/health/live")
        finally:
            await admin.execute(f"ALTER DATABASE {database} CONNECTION LIMIT -1")
            await admin.close()
        assert lost.status_code == 503 and int(lost.headers["Retry-After"]) > 0
        assert lost.headers["content-type"] == "application/problem+json"
        assert ready.status_code == 503 and parts(ready)["database"] is False
        assert live.status_code == 200
        assert (await client.get("/api/auth/me")).status_code == 200
