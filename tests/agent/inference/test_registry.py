import aiohttp
import pytest

from backend.agent.inference import registry
from backend.agent.inference.base import ChatMessage
from backend.agent.inference.errors import ModelNotFound, NotConfigured
from backend.agent.inference.registry import Credential, Models
from tests.wire.ollama_server import OllamaServer
from tests.wire.openai_server import KEY, OpenAIServer

HELLO = [ChatMessage(role="user", content="Hello")]


def at(server: OpenAIServer, key: str = KEY) -> Credential:
    return Credential(api_key=key, base_url=f"{server.url}/v1")


async def test_a_model_is_found_by_its_full_name(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    model = Models(session).get_model("openai/gpt-4o", {"openai": at(openai)})
    assert (model.name, model.provider, model.kind) == ("openai/gpt-4o", "openai", "centralized")
    assert model.info.context_tokens == 128_000
    assert (await model.generate(HELLO, max_tokens=5)).content == "Hello!"


async def test_a_model_s_own_name_may_hold_slashes_and_colons(session: aiohttp.ClientSession) -> None:
    models = Models(session, credentials={"openrouter": Credential("k")})
    assert models.get_model("openrouter/openai/gpt-4o:floor").info.id == "openai/gpt-4o:floor"
    assert models.get_model("ollama/llama3.2:3b").name == "ollama/llama3.2:3b"


@pytest.mark.parametrize("name", ["gpt-4o", "openai/", "nobody/gpt-4o", ""])
async def test_a_name_that_means_nothing_says_what_to_write(
    session: aiohttp.ClientSession, name: str
) -> None:
    with pytest.raises(ModelNotFound, match="openai/gpt-4o"):
        Models(session).get_model(name)


@pytest.mark.parametrize(
    ("name", "setting"), [("openai/gpt-4o", "OPENAI_API_KEY"), ("custom/x", "CUSTOM_BASE_URL")]
)
async def test_what_is_not_set_up_names_its_setting(
    session: aiohttp.ClientSession, name: str, setting: str
) -> None:
    with pytest.raises(NotConfigured, match=setting) as failure:
        Models(session).get_model(name)
    assert failure.value.setting == setting


async def test_an_account_s_credential_goes_before_the_environment_s(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    models = Models(session, credentials={"openai": at(openai, "sk-wrong")})
    assert (
        await models.get_model("openai/gpt-4o", {"openai": at(openai)}).generate(HELLO)
    ).content == "Hello!"


async def test_the_listing_fills_in_what_is_known_of_a_model(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    openai.listing = {
        "data": [
            {"id": "a/b", "context_length": 1000, "pricing": {"prompt": "0.000001", "completion": "0.000002"}}
        ]
    }
    models = Models(session, credentials={"openrouter": at(openai)})
    assert models.get_model("openrouter/a/b").info.input_price is None
    await models.models("openrouter")
    openai.listing = {"data": []}
    assert [info.id for info in await models.models("openrouter")] == ["a/b"]
    assert models.get_model("openrouter/a/b").info.input_price == 1_000_000


async def test_trying_a_key_says_whether_it_works(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    models = Models(session)
    good = await models.test("openai", at(openai))
    assert (good.ok, good.models, good.problem) == (True, 2, None)
    bad = await models.test("openrouter", at(openai, "sk-wrong-key"))
    assert not bad.ok
    assert "Incorrect API key" in (bad.problem or "")
    assert "sk-wrong-key" not in (bad.problem or "")
    assert "OPENAI_API_KEY" in ((await models.test("openai", Credential())).problem or "")


async def test_ollama_and_the_demo_model_need_no_key(
    session: aiohttp.ClientSession, ollama_server: OllamaServer
) -> None:
    models = Models(session, credentials={"ollama": Credential(base_url=ollama_server.url)})
    assert (await models.get_model("ollama/llama3.2:3b").generate(HELLO)).content == "Hello!"
    assert "no AI" in (await models.get_model("scripted/demo").generate(HELLO)).content
    await models.aclose()


async def test_the_process_s_own_models(session: aiohttp.ClientSession) -> None:
    registry.use(Models(session))
    assert registry.get_model("scripted/demo").kind == "demo"


def test_printing_a_credential_shows_no_key() -> None:
    assert "secret" not in f"{Credential(api_key='secret')!r} {Credential(api_key='secret')}"
