"""Models over HTTP: providers' keys and addresses, tests by a real call, prices, the default."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from backend.embedded.process import free_port
from tests.conftest import Servers
from tests.people import Person, add_person, signed_in
from tests.product import Started
from tests.wire.ollama_server import OllamaServer
from tests.wire.openai_server import KEY, OpenAIServer

OPERATORS_KEY = "sk-operator-secret-0001"


@pytest.fixture(scope="module")
def openai() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture(scope="module")
def operators() -> Iterator[OpenAIServer]:
    """The server that the operator's own key belongs to."""
    with OpenAIServer(key=OPERATORS_KEY) as server:
        yield server


@pytest.fixture(scope="module")
def ollama() -> Iterator[OllamaServer]:
    with OllamaServer() as server:
        yield server


@pytest.fixture(scope="module")
def api(
    environment: dict[str, str],
    data_dir: Path,
    openai: OpenAIServer,
    operators: OpenAIServer,
    ollama: OllamaServer,
) -> Iterator[Started]:
    """An api process whose operator has a key for OpenAI, and knows of three private servers."""
    port = free_port()
    own = {
        "OPENAI_API_KEY": OPERATORS_KEY,
        "OPENAI_BASE_URL": f"{operators.url}/v1",
        "OLLAMA_BASE_URL": ollama.url,
        "VIBE_DEFAULT_MODEL": "openai/gpt-4o",
        "VIBE_PRIVATE_TARGETS": ",".join(
            server.url.removeprefix("http://") for server in (openai, operators, ollama)
        ),
    }
    started = Started(
        ["api", "--port", str(port)],
        environment | own,
        data_dir / "logs" / "api-providers.log",
        f"http://127.0.0.1:{port}",
    )
    started.start()
    yield started
    started.stop()


@pytest.fixture
async def person(servers: Servers, clean: None) -> Person:
    return await add_person(servers.admin_dsn)


@pytest.fixture
async def client(api: Started, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    async with signed_in(api.url, person) as opened:
        yield opened


async def provider(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    listed = (await client.get("/api/inference/providers")).json()
    found: dict[str, Any] = next(one for one in listed if one["name"] == name)
    return found


async def put(client: httpx.AsyncClient, name: str, **update: str) -> httpx.Response:
    return await client.put(f"/api/inference/providers/{name}", json=update)


async def check(client: httpx.AsyncClient, name: str, **update: str) -> dict[str, Any]:
    answer = await client.post(f"/api/inference/providers/{name}/test", json=update)
    assert answer.status_code == 200, answer.text
    tested: dict[str, Any] = answer.json()
    return tested


async def test_every_provider_says_where_its_credential_comes_from(client: httpx.AsyncClient) -> None:
    listed = {one["name"]: one for one in (await client.get("/api/inference/providers")).json()}
    sources = {name: (one["source"], one["configured"]) for name, one in listed.items()}
    assert sources["openai"] == ("environment", True)
    assert sources["openrouter"] == ("none", False)
    assert sources["custom"] == ("none", False)
    assert sources["scripted"] == ("built-in", True)
    assert OPERATORS_KEY not in json.dumps(listed) and OPERATORS_KEY[-4:] not in listed["openai"]["hint"]


async def test_ollama_is_asked_whether_it_is_there(client: httpx.AsyncClient) -> None:
    status = await provider(client, "ollama")
    assert status["test_ok"] is True and status["needs_key"] is False and status["tested_at"]


async def test_a_key_is_sealed_and_never_returned(
    client: httpx.AsyncClient, servers: Servers, openai: OpenAIServer
) -> None:
    saved = await put(client, "openrouter", api_key=KEY, base_url=f"{openai.url}/v1")
    assert saved.status_code == 200
    assert saved.json()["hint"] == KEY[-4:] and saved.json()["source"] == "account"
    assert KEY not in saved.text and KEY not in (await client.get("/api/inference/providers")).text
    connection = await asyncpg.connect(servers.admin_dsn)
    rows = await connection.fetch(
        "SELECT row_to_json(c)::text AS c FROM credentials c UNION ALL SELECT row_to_json(a)::text FROM audit_log a"
    )
    await connection.close()
    assert rows and not any(KEY in row["c"] or KEY.encode().hex() in row["c"] for row in rows)


async def test_a_sealed_key_opens_for_its_own_row_only(
    client: httpx.AsyncClient, servers: Servers, openai: OpenAIServer
) -> None:
    await put(client, "openrouter", api_key=KEY, base_url=f"{openai.url}/v1")
    connection = await asyncpg.connect(servers.admin_dsn)
    await connection.execute("UPDATE credentials SET provider = 'custom'")
    await connection.close()
    answer = await client.post("/api/inference/providers/custom/test", json={})
    assert answer.status_code == 503 and "VIBE_SECRET_KEY" in answer.json()["detail"]


async def test_a_test_makes_a_real_call_and_says_in_plain_words_what_happened(
    client: httpx.AsyncClient, openai: OpenAIServer
) -> None:
    address = f"{openai.url}/v1"
    good = await check(client, "custom", api_key=KEY, base_url=address)
    bad = await check(client, "custom", api_key="sk-wrong-key-000000", base_url=address)
    assert good["ok"] is True and good["models"] == ["gpt-4o", "o3-mini"] and good["latency_ms"] >= 0
    assert (
        bad["ok"] is False
        and bad["models"] == []
        and "key" in bad["detail"].lower()
        and "sk-wrong" not in bad["detail"]
    )
    assert (await provider(client, "custom"))["source"] == "none"


async def test_what_is_stored_remembers_its_last_test(
    client: httpx.AsyncClient, openai: OpenAIServer
) -> None:
    await put(client, "custom", api_key=KEY, base_url=f"{openai.url}/v1")
    assert (await provider(client, "custom"))["test_ok"] is None
    await check(client, "custom")
    tested = await provider(client, "custom")
    assert tested["test_ok"] is True and tested["tested_at"] and tested["test_detail"]
    await put(client, "custom", api_key="sk-wrong-key-000000")
    assert (await provider(client, "custom"))["test_ok"] is None
    assert (await check(client, "custom"))["ok"] is False
    assert (await provider(client, "custom"))["test_ok"] is False


async def test_a_stored_key_goes_to_no_other_address(
    client: httpx.AsyncClient, openai: OpenAIServer, operators: OpenAIServer
) -> None:
    await put(client, "custom", api_key=KEY, base_url=f"{openai.url}/v1")
    moved = {"base_url": f"{operators.url}/v1"}
    assert (await put(client, "custom", **moved)).status_code == 400
    assert (await client.post("/api/inference/providers/custom/test", json=moved)).status_code == 400
    assert (await put(client, "custom", base_url=f"{openai.url}/v1/")).status_code == 200
    assert (await put(client, "custom", api_key=OPERATORS_KEY, **moved)).status_code == 200


async def test_the_operators_key_goes_to_no_address_of_an_account(
    client: httpx.AsyncClient, operators: OpenAIServer
) -> None:
    """The server accepts the operator's key alone, so a success would prove that it was sent."""
    assert (await check(client, "openai"))["ok"] is True
    assert (await check(client, "openai", base_url=f"{operators.url}/v1"))["ok"] is False
    await put(client, "openai", base_url=f"{operators.url}/v1")
    assert (await check(client, "openai"))["ok"] is False


async def test_an_accounts_key_goes_to_the_operators_address(client: httpx.AsyncClient) -> None:
    await put(client, "openai", api_key=OPERATORS_KEY)
    assert (await check(client, "openai"))["ok"] is True
    models = (await client.get("/api/inference/models")).json()
    assert "openai/gpt-4o" in {model["name"] for model in models}


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest",
        "http://127.0.0.1:1/v1",
        "http://[::1]:80/v1",
        "http://10.0.0.1/v1",
        "http://2130706433/v1",
        "file:///etc/passwd",
        "https://user:secret@example.org/v1",
        "https://example.org/v1?key=1",
        "example.org",
    ],
)
async def test_an_address_inside_this_network_is_refused_unless_the_operator_named_it(
    client: httpx.AsyncClient, address: str
) -> None:
    saved = await put(client, "custom", base_url=address)
    tested = await client.post("/api/inference/providers/custom/test", json={"base_url": address})
    assert saved.status_code == tested.status_code == 422
    assert saved.json()["errors"][0]["loc"] == "base_url"


async def test_what_is_removed_falls_back_to_the_environment(client: httpx.AsyncClient) -> None:
    await put(client, "openai", api_key="sk-my-own-key-000000")
    assert (await provider(client, "openai"))["source"] == "account"
    assert (await client.delete("/api/inference/providers/openai")).status_code == 204
    assert (await provider(client, "openai"))["source"] == "environment"
    assert (await client.delete("/api/inference/providers/openai")).status_code == 404


@pytest.mark.parametrize(
    ("name", "update", "status"),
    [
        ("scripted", {"api_key": "k"}, 400),
        ("ollama", {"api_key": "k"}, 400),
        ("openai", {}, 400),
        ("nobody", {"api_key": "k"}, 404),
    ],
)
async def test_what_cannot_be_set_is_refused(
    client: httpx.AsyncClient, name: str, update: dict[str, str], status: int
) -> None:
    assert (await put(client, name, **update)).status_code == status


async def test_models_of_every_provider_that_answers_can_be_chosen(client: httpx.AsyncClient) -> None:
    models = {model["name"]: model for model in (await client.get("/api/inference/models")).json()}
    assert {"openai/gpt-4o", "ollama/llama3.2:3b", "scripted/demo"} <= models.keys()
    assert (
        models["scripted/demo"]["kind"] == "demo" and models["scripted/demo"]["title"] == "Demo model, no AI"
    )
    assert models["ollama/llama3.2:3b"]["price_source"] == "free"
    assert (
        models["openai/gpt-4o"]["price_source"] == "unknown"
        and models["openai/gpt-4o"]["input_price"] is None
    )


async def test_a_provider_that_does_not_answer_takes_no_other_away_and_says_so(
    client: httpx.AsyncClient, openai: OpenAIServer
) -> None:
    await put(client, "custom", api_key="sk-wrong-key-000000", base_url=f"{openai.url}/v1")
    names = {model["name"] for model in (await client.get("/api/inference/models")).json()}
    assert "openai/gpt-4o" in names and not any(name.startswith("custom/") for name in names)
    assert (await provider(client, "custom"))["test_ok"] is False


async def test_a_price_is_set_shown_and_forgotten(client: httpx.AsyncClient) -> None:
    async def model() -> dict[str, Any]:
        listed = (await client.get("/api/inference/models")).json()
        return next(one for one in listed if one["name"] == "openai/gpt-4o")

    price = {
        "model": "openai/gpt-4o",
        "input_price": 2_500_000,
        "output_price": 10_000_000,
        "cached_price": None,
    }
    assert (await client.put("/api/inference/models/price", json=price)).json() == price
    shown = await model()
    assert (shown["input_price"], shown["output_price"], shown["cached_price"]) == (
        2_500_000,
        10_000_000,
        None,
    )
    assert shown["price_source"] == "account"
    await client.put("/api/inference/models/price", json={"model": "openai/gpt-4o"})
    assert (await model())["price_source"] == "unknown"
    assert (
        await client.put("/api/inference/models/price", json={"model": "gpt-4o", "input_price": 1})
    ).status_code == 400
    assert (
        await client.put("/api/inference/models/price", json=price | {"input_price": -1})
    ).status_code == 422


async def test_the_default_model_is_the_accounts_else_the_environments(client: httpx.AsyncClient) -> None:
    path = "/api/inference/settings"
    assert (await client.get(path)).json() == {"default_model": "openai/gpt-4o"}
    assert (await client.put(path, json={"default_model": "scripted/demo"})).json() == {
        "default_model": "scripted/demo"
    }
    assert (await client.put(path, json={"default_model": "nonsense"})).status_code == 400
    assert (await client.put(path, json={"default_model": None})).json() == {"default_model": "openai/gpt-4o"}


async def test_tests_are_limited_in_number(client: httpx.AsyncClient) -> None:
    statuses = [
        (await client.post("/api/inference/providers/scripted/test", json={})).status_code for _ in range(31)
    ]
    assert statuses == [200] * 30 + [429]
