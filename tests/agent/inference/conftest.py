from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.wire.ollama_server import OllamaServer
from tests.wire.openai_server import OpenAIServer


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """The process's HTTP session."""
    async with aiohttp.ClientSession() as opened:
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
