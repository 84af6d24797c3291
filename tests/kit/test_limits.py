"""Requests a minute, counted here and settled with other processes."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from backend.kit import redis
from backend.kit.limits import Meter
from tests.conftest import Servers
from tests.people import add_person, signed_in
from tests.product import Spawn, Started


@pytest.fixture
async def client(servers: Servers, clean: None) -> AsyncIterator["Redis"]:
    made = redis.connect(servers.redis_dsn)
    yield made
    await made.aclose()


async def learned(meter: Meter, name: str, limit: int, remaining: int) -> None:
    """Return when the meter knows what other processes have used."""
    async with asyncio.timeout(10):
        while meter.use(name, limit).remaining > remaining:
            await asyncio.sleep(0.01)


async def test_processes_learn_of_each_others_requests(client: "Redis") -> None:
    here, there = Meter(client, settle_seconds=0.01), Meter(client, settle_seconds=0.01)
    assert [here.use("a", 1000).remaining for _ in range(3)] == [999, 998, 997]
    for _ in range(500):
        there.use("a", 1000)
    await learned(here, "a", 1000, 496)
    assert here.use("b", 5).remaining == 4
    await here.close()
    await there.close()


async def test_while_redis_is_away_the_process_counts_alone_and_nothing_fails() -> None:
    nowhere = redis.connect("redis://127.0.0.1:1/0")
    meter = Meter(nowhere, settle_seconds=0.001)
    counted = []
    for _ in range(5):
        counted.append(meter.use("a", 5).remaining)
        await asyncio.sleep(0.01)
    assert counted == [4, 3, 2, 1, 0]
    await meter.close()
    await nowhere.aclose()


async def test_answers_say_what_is_left_and_too_many_are_refused(spawn: Spawn, servers: Servers) -> None:
    ada = await add_person(servers.admin_dsn)
    api = spawn.api(VIBE_RATE_LIMIT_PER_MINUTE="5")
    async with signed_in(api.url, ada) as client:
        answers = [await client.get("/api/auth/me") for _ in range(12)]  # a minute may turn meanwhile
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert answers[0].headers["ratelimit-limit"] == "5" and answers[0].headers["ratelimit-remaining"] == "4"
        assert 1 <= int(answers[0].headers["ratelimit-reset"]) <= 60
        assert refused.headers["ratelimit-remaining"] == "0" and refused.headers["retry-after"] == refused.headers["ratelimit-reset"]
        assert refused.headers["content-type"] == "application/problem+json"
        key = await client.get("/health/live")
        assert "ratelimit-limit" not in key.headers


async def test_without_a_limit_nothing_is_counted(server: Started, servers: Servers, client: "Redis") -> None:
    ada = await add_person(servers.admin_dsn)
    async with signed_in(server.url, ada) as signed:
        assert "ratelimit-limit" not in (await signed.get("/api/auth/me")).headers
    assert await client.keys("vibe:rate:*") == []
