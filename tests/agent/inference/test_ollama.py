import json
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.agent.inference.base import (
    ChatMessage,
    Completed,
    ModelEvent,
    ModelInfo,
    ModelRequest,
    Options,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolSpec,
    Usage,
)
from backend.agent.inference.errors import (
    BadModelRequest,
    ContextOverflow,
    ModelError,
    ModelNotFound,
    UpstreamFailed,
    UpstreamTimeout,
)
from backend.agent.inference.providers.http import Timeouts
from backend.agent.inference.providers.ollama import Found, Ollama, probe
from backend.agent.inference.providers.openai import sound_arguments
from tests.wire.ollama_server import OllamaServer, last, line, lines, streamed
from tests.wire.openai_server import OpenAIServer
from tests.wire.server import Reply, refusal

USER = ChatMessage(role="user", content="Hello")
SHELL = ToolSpec("shell", "Run a command.", {"type": "object", "properties": {"command": {"type": "string"}}})
SLICES = lines(
    line({"thinking": "hm "}),
    line({"thinking": "ok"}),
    line({"content": "Grüße "}),
    line({"content": "世界"}),
    line({"tool_calls": [{"function": {"name": "shell", "arguments": {"command": "ls"}}}]}),
    line({"tool_calls": [{"id": "c2", "function": {"name": "shell", "arguments": {}}}]}),
    last(),
)


async def all_of(
    session: aiohttp.ClientSession, server: OllamaServer, *messages: ChatMessage, **options: Any
) -> list[ModelEvent]:
    ollama = Ollama(session, base_url=server.url, timeouts=Timeouts(5, 5, 0.5))
    request = ModelRequest(**{"model": "llama3.2:3b", "messages": messages or (USER,)} | options)
    return [event async for event in ollama.stream(request)]


async def completed(
    session: aiohttp.ClientSession, server: OllamaServer, *messages: ChatMessage, **options: Any
) -> Completed:
    end = (await all_of(session, server, *messages, **options))[-1]
    assert isinstance(end, Completed)
    return end


async def test_the_request_is_in_ollamas_shape(
    session: aiohttp.ClientSession, ollama_server: OllamaServer
) -> None:
    calls = ChatMessage(
        role="assistant",
        tool_calls=(ToolCall("c1", "shell", '{"command":"ls"}'), ToolCall("c2", "shell", "{")),
    )
    results = [ChatMessage(role="tool", content="a.txt", tool_call_id=id) for id in ("c1", "c2")]
    await completed(
        session, ollama_server, USER, calls, *results, tools=[SHELL], temperature=0.5, max_tokens=9
    )
    assert ollama_server.sent == [
        {
            "model": "llama3.2:3b",
            "messages": [
                {"role": "user", "content": "Hello"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {"function": {"name": "shell", "arguments": {"command": "ls"}}},
                        {"function": {"name": "shell", "arguments": {"invalid_json": "{"}}},
                    ],
                },
                {"role": "tool", "content": "a.txt", "tool_name": "shell"},
                {"role": "tool", "content": "a.txt", "tool_name": "shell"},
            ],
            "stream": True,
            "options": {"num_ctx": 16384, "temperature": 0.5, "num_predict": 9},
            "truncate": False,
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "shell",
                        "description": "Run a command.",
                        "parameters": SHELL.parameters,
                    },
                }
            ],
        }
    ]


async def test_what_a_caller_wishes_is_said_in_ollamas_words(
    session: aiohttp.ClientSession, ollama_server: OllamaServer
) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    given = Options(stop=("END",), top_p=0.9, seed=7, presence_penalty=1.0, tool_choice="none", response_format=form)
    await completed(session, ollama_server, tools=(SHELL,), options=given)
    (sent,) = ollama_server.sent
    assert sent["options"] == {"num_ctx": 16384, "stop": ["END"], "top_p": 0.9, "seed": 7, "presence_penalty": 1.0}
    assert sent["format"] == schema and "tools" not in sent
    await completed(session, ollama_server, options=Options(response_format={"type": "json_object"}))
    assert ollama_server.sent[1]["format"] == "json"
    with pytest.raises(BadModelRequest):
        await completed(session, ollama_server, tools=(SHELL,), options=Options(tool_choice="required"))


async def test_an_answer_with_everything_in_it(
    session: aiohttp.ClientSession, ollama_server: OllamaServer
) -> None:
    ollama_server.play(Reply([SLICES], content_type="application/x-ndjson"))
    events = await all_of(session, ollama_server)
    end = events[-1]
    assert isinstance(end, Completed)
    assert (end.content, end.reasoning, end.usage) == ("Grüße 世界", "hm ok", Usage(26, 7))
    assert [(call.name, call.arguments) for call in end.tool_calls] == [
        ("shell", '{"command":"ls"}'),
        ("shell", "{}"),
    ]
    assert end.tool_calls[0].id != end.tool_calls[1].id == "c2"
    assert end.stop_reason == "tool_calls"
    assert {type(event) for event in events} == {ReasoningDelta, TextDelta, ToolCallDelta, Completed}


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_however_the_network_cuts_the_lines_the_answer_is_the_same(
    session: aiohttp.ClientSession, ollama_server: OllamaServer, size: int
) -> None:
    cut = [SLICES[start : start + size] for start in range(0, len(SLICES), size)]
    ollama_server.play(
        Reply([part for piece in cut for part in (piece, 0.0)], content_type="application/x-ndjson")
    )
    end = await completed(session, ollama_server)
    assert (end.content, end.reasoning, len(end.tool_calls)) == ("Grüße 世界", "hm ok", 2)


async def test_without_counts_usage_is_an_estimate(
    session: aiohttp.ClientSession, ollama_server: OllamaServer
) -> None:
    ollama_server.play(streamed(line({"content": "Hello there"}), line(done=True, done_reason="length")))
    end = await completed(session, ollama_server)
    assert end.usage.estimated
    assert end.stop_reason == "length"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (streamed(line({"content": "He"}), {"error": "llama runner process has terminated"}), UpstreamFailed),
        (streamed(line({"content": "He"})), UpstreamFailed),
        (
            Reply([lines(line({"content": "He"})), b'{"message"'], content_type="application/x-ndjson"),
            UpstreamFailed,
        ),
        (
            Reply([lines(line({"content": "He"})), 0.02], content_type="application/x-ndjson", ending="drop"),
            UpstreamFailed,
        ),
        (
            Reply([lines(line({"content": "He"}))], content_type="application/x-ndjson", ending="hang"),
            UpstreamTimeout,
        ),
        (refusal(400, {"error": "the input length exceeds the context length"}), ContextOverflow),
        (refusal(500, {"error": "model requires more system memory"}), UpstreamFailed),
    ],
    ids=["error line", "ends", "broken line", "drops", "hangs", "too long", "refuses"],
)
async def test_failures_are_told_apart(
    session: aiohttp.ClientSession, ollama_server: OllamaServer, reply: Reply, kind: type[ModelError]
) -> None:
    ollama_server.play(reply)
    with pytest.raises(ModelError) as failure:
        await completed(session, ollama_server)
    assert type(failure.value) is kind


async def test_a_model_that_is_not_pulled_is_named(
    session: aiohttp.ClientSession, ollama_server: OllamaServer
) -> None:
    with pytest.raises(ModelNotFound, match="qwen"):
        await completed(session, ollama_server, model="qwen3")


async def test_the_listing_tells_context_and_tools_of_what_chats(
    session: aiohttp.ClientSession, ollama_server: OllamaServer
) -> None:
    free = {"input_price": 0, "output_price": 0, "cached_price": 0}
    assert await Ollama(session, base_url=ollama_server.url).models() == [
        ModelInfo("llama3.2:3b", context_tokens=16384, supports_tools=True, **free),
        ModelInfo("tiny:latest", context_tokens=2048, supports_tools=False, **free),
    ]


async def test_a_probe_finds_ollama(session: aiohttp.ClientSession, ollama_server: OllamaServer) -> None:
    found = await probe(session, ollama_server.url)
    assert found == Found("0.13.0", ("llama3.2:3b", "tiny:latest", "nomic-embed-text:latest"))


async def test_a_probe_of_something_else_says_so(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    assert (await probe(session, openai.url)).problem
    with OpenAIServer() as server:
        gone = server.url
    assert "Cannot reach" in ((await probe(session, gone)).problem or "")


@given(st.text())
def test_any_arguments_become_an_object(text: str) -> None:
    assert isinstance(json.loads(sound_arguments(text)), dict)
