"""The product with a model server beside it that is as strict as OpenAI's, and OpenAI's own client."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from openai import AsyncOpenAI

from backend.embedded import process
from backend.kit.db import Database
from tests.client import Person, Product, owner
from tests.product import Started
from tests.wire.openai_server import OpenAIServer


@pytest.fixture(scope="session")
def _wire() -> Iterator[OpenAIServer]:
    with OpenAIServer(key=None, models=("m",)) as server:
        yield server


@pytest.fixture
def wire(_wire: OpenAIServer) -> OpenAIServer:
    """The model server behind `custom/m`, with nothing played and nothing sent."""
    _wire.replies.clear()
    _wire.sent.clear()
    _wire.client_left.clear()
    _wire.context_chars = 1_000_000
    return _wire


@pytest.fixture(scope="session")
def _door(environment: dict[str, str], data_dir: Path, _wire: OpenAIServer) -> Iterator[Started]:
    port = process.free_port()
    to_models = {
        "CUSTOM_BASE_URL": f"{_wire.url}/v1",
        "VIBE_PRIVATE_TARGETS": urlsplit(_wire.url).netloc,
        "VIBE_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    api = Started(["api", "--port", str(port)], environment | to_models, data_dir / "logs" / "door.log", f"http://127.0.0.1:{port}")
    api.start()
    yield api
    api.stop()


@pytest.fixture
def door(_door: Started, clean: None) -> Started:
    """The app on a real port, over empty tables."""
    return _door


@pytest.fixture
async def person(database: Database, door: Started) -> Person:
    """The owner, with a key."""
    return await owner(database)


@pytest.fixture
async def ada(person: Person, door: Started) -> AsyncIterator[Product]:
    """The product as its owner sees it."""
    async with person.at(door.url) as product:
        yield product


@pytest.fixture
async def client(person: Person, door: Started) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's own client, which here checks every answer and every event against its types."""
    async with AsyncOpenAI(base_url=f"{door.url}/v1", api_key=person.key, max_retries=0, timeout=30, _strict_response_validation=True) as opened:
        yield opened
