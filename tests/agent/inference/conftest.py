from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from backend.agent.inference.providers.http import open_session
from tests.wire.ollama_server import OllamaServer
from tests.wire.openai_server import OpenAIServer


class EveryPortOfThisMachine(frozenset[str]):
    """Private targets of a person who named every port."""

    def __contains__(self, target: object) -> bool:
        return str(target).startswith("127.0.0.1:")


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """The process's HTTP session, as the product opens it; servers of this machine's tests may be reached."""
    async with open_session(EveryPortOfThisMachine()) as opened:
        yield opened


@pytest.fixture
def openai() -> Iterator[OpenAIServer]:
    """A server as strict as OpenAI's."""
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def ollama_server() -> Iterator[OllamaServer]:
    """A server that speaks Ollama's wire."""
    with OllamaServer() as server:
        yield server
