import asyncio
import itertools
import json
from contextlib import aclosing
from decimal import Decimal
from email.utils import formatdate
from time import time
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
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolSpec,
    Usage,
)
from backend.agent.inference.catalogue import BY_NAME
from backend.agent.inference.errors import (
    BadModelRequest,
    ContextOverflow,
    KeyRejected,
    ModelError,
    ModelNotFound,
    NotConfigured,
    RateLimited,
    UpstreamFailed,
    UpstreamTimeout,
)
from backend.agent.inference.providers.http import Beat, Timeouts, Wire, open_session, retry_after
from backend.agent.inference.providers.openai import Answer, OpenAICompatible, micro_usd_per_million
from backend.agent.inference.providers.sse import EventReader
from tests.wire.openai_server import KEY, OpenAIServer, answer, chunk, events, streamed, usage
from tests.wire.server import Reply, refusal

USER = ChatMessage(role="user", content="Hello")
SHELL = ToolSpec("shell", "Run a command.", {"type": "object", "properties": {"command": {"type": "string"}}})


def client(
    session: aiohttp.ClientSession, server: OpenAIServer, vendor: str = "openai", **options: Any
) -> OpenAICompatible:
    options = {"base_url": f"{server.url}/v1", "api_key": KEY} | options
    return OpenAICompatible(BY_NAME[vendor], session, **options)


def request(*messages: ChatMessage, **options: Any) -> ModelRequest:
    return ModelRequest(**{"model": "gpt-4o", "messages": messages or (USER,)} | options)


async def all_of(provider: OpenAICompatible, asked: ModelRequest | None = None) -> list[ModelEvent]:
    return [event async for event in provider.stream(asked or request())]


async def completed(provider: OpenAICompatible, asked: ModelRequest | None = None) -> Completed:
    last = (await all_of(provider, asked))[-1]
    assert isinstance(last, Completed)
    return last


def call_part(index: int | None, id: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    part: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    if index is not None:
        part["index"] = index
    if id is not None:
        part |= {"id": id, "type": "function"}
    return part


def calling(*parts: dict[str, Any], finish: str = "tool_calls") -> Reply:
    return streamed(*(chunk({"tool_calls": [part]}) for part in parts), chunk({}, finish=finish))


# ---- what is sent ----


async def test_the_request_is_what_the_vendor_documents(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    history = (
        ChatMessage(role="system", content="Be brief."),
        USER,
        ChatMessage(role="assistant", tool_calls=(ToolCall("call_1", "shell", '{"command": "ls"}'),)),
        ChatMessage(role="tool", content="a.txt", tool_call_id="call_1"),
    )
    asked = request(*history, tools=[SHELL], temperature=0.2, max_tokens=50, request_id="run:1")
    await completed(client(session, openai), asked)
    assert openai.sent == [
        {
            "model": "gpt-4o",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "shell", "arguments": '{"command": "ls"}'},
                        }
                    ],
                },
                {"role": "tool", "content": "a.txt", "tool_call_id": "call_1"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
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
            "temperature": 0.2,
            "max_completion_tokens": 50,
        }
    ]
    assert openai.headers[0]["X-Client-Request-Id"] == "run:1"


async def test_models_that_refuse_a_temperature_get_none(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    await completed(client(session, openai), request(model="o3-mini", temperature=0.0, max_tokens=9))
    assert openai.sent[0].keys() == {"model", "messages", "stream", "stream_options", "max_completion_tokens"}


async def test_other_servers_get_max_tokens(session: aiohttp.ClientSession, openai: OpenAIServer) -> None:
    await completed(client(session, openai, "custom"), request(max_tokens=9))
    assert openai.sent[0]["max_tokens"] == 9
    assert "max_completion_tokens" not in openai.sent[0]


@pytest.mark.parametrize(
    ("written", "sent"),
    [('{"command": "ls', {"invalid_json": '{"command": "ls'}), ("", {}), ("[1]", {"invalid_json": "[1]"})],
)
async def test_arguments_the_model_wrote_badly_are_sent_back_as_valid_json(
    session: aiohttp.ClientSession, openai: OpenAIServer, written: str, sent: dict[str, Any]
) -> None:
    calls = ChatMessage(role="assistant", tool_calls=(ToolCall("c", "shell", written),))
    await completed(
        client(session, openai),
        request(USER, calls, ChatMessage(role="tool", content="bad", tool_call_id="c")),
    )
    assert json.loads(openai.sent[0]["messages"][1]["tool_calls"][0]["function"]["arguments"]) == sent


async def test_a_server_without_a_key_is_sent_none(session: aiohttp.ClientSession) -> None:
    with OpenAIServer(key=None) as server:
        await completed(client(session, server, "custom", api_key=None))
        assert "Authorization" not in server.headers[0]


# ---- what is read ----


async def test_an_answer_comes_as_deltas_and_then_whole(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    openai.play(streamed(*answer("Hel", "lo", "!", told=usage(30, 5, cached=20, reasoning=2))))
    got = await all_of(client(session, openai))
    assert "".join(event.text for event in got if isinstance(event, TextDelta)) == "Hello!"
    assert got[-1] == Completed(
        content="Hello!",
        reasoning="",
        tool_calls=(),
        usage=Usage(30, 5, 20, 2),
        stop_reason="stop",
        model="gpt-4o-2024-08-06",
        upstream_id="chatcmpl-1",
    )


async def test_what_arrives_in_one_read_is_one_delta(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    openai.play(streamed(*answer(*(f"word{n} " for n in range(100)), told=usage(1, 100))))
    assert len(await all_of(client(session, openai))) <= 4


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_comes_apart_from_the_answer(
    session: aiohttp.ClientSession, openai: OpenAIServer, field: str
) -> None:
    openai.play(
        streamed(
            chunk({field: "Let me "}),
            chunk({field: "see."}),
            chunk({"content": "42"}),
            chunk({}, finish="stop"),
        )
    )
    got = await all_of(client(session, openai))
    assert [type(event) for event in got] == [ReasoningDelta, TextDelta, Completed]
    assert got[-1].reasoning == "Let me see."  # type: ignore[union-attr]


async def test_parallel_calls_are_put_together_by_index(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    openai.play(
        calling(
            call_part(0, "call_a", "shell", ""),
            call_part(0, None, None, '{"command"'),
            call_part(1, "call_b", "read_file", ""),
            call_part(0, None, None, ': "ls"}'),
            call_part(1, None, None, '{"path": "x"}'),
        )
    )
    got = await all_of(client(session, openai))
    done = got[-1]
    assert isinstance(done, Completed)
    assert done.tool_calls == (
        ToolCall("call_a", "shell", '{"command": "ls"}'),
        ToolCall("call_b", "read_file", '{"path": "x"}'),
    )
    assert done.stop_reason == "tool_calls"
    pieces = [event for event in got if isinstance(event, ToolCallDelta)]
    for number, call in enumerate(done.tool_calls):
        mine = [piece for piece in pieces if piece.index == number]
        assert {(piece.id, piece.name) for piece in mine} == {(call.id, call.name)}
        assert "".join(piece.arguments for piece in mine) == call.arguments


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(
            [call_part(None, "a", "f", '{"n":1}'), call_part(None, "b", "f", '{"n":2}')], id="no index"
        ),
        pytest.param(
            [call_part(0, "a", "f", '{"n":1}'), call_part(0, "b", "f", '{"n":2}')], id="all have index 0"
        ),
        pytest.param([call_part(0, None, "f", '{"n":1}'), call_part(1, None, "f", '{"n":2}')], id="no id"),
        pytest.param([call_part(0, "", "f", '{"n":1}'), call_part(1, "", "f", '{"n":2}')], id="empty id"),
        pytest.param(
            [call_part(0, "x", "f", '{"n":1}'), call_part(1, "x", "f", '{"n":2}')], id="the same id twice"
        ),
        pytest.param(
            [call_part(None, None, "f", '{"n":1}'), call_part(None, None, "f", '{"n":2}')], id="neither"
        ),
        pytest.param(
            [call_part(0, "a", "f", {"n": 1}), call_part(1, "b", "f", {"n": 2})], id="arguments as an object"
        ),
    ],
)
async def test_calls_of_careless_servers_are_told_apart(
    session: aiohttp.ClientSession, openai: OpenAIServer, parts: list[dict[str, Any]]
) -> None:
    openai.play(calling(*parts, finish="stop"))
    done = await completed(client(session, openai))
    assert [(call.name, json.loads(call.arguments)["n"]) for call in done.tool_calls] == [("f", 1), ("f", 2)]
    assert len({call.id for call in done.tool_calls}) == 2
    assert done.stop_reason == "tool_calls"


async def test_pieces_without_an_index_belong_to_the_call_before(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    openai.play(calling(call_part(None, "a", "f", '{"n"'), call_part(None, None, None, ":1}")))
    assert (await completed(client(session, openai))).tool_calls == (ToolCall("a", "f", '{"n":1}'),)


async def test_without_usage_we_count_and_say_so(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    openai.play(streamed(*answer("Hello there, how are you?")))
    told = (await completed(client(session, openai))).usage
    assert told.estimated
    assert told.input_tokens > 0
    assert 4 <= told.output_tokens <= 10


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("length", "length"), ("content_filter", "content_filter"), ("eos", "other"), ("stop", "stop")],
)
async def test_stop_reasons(
    session: aiohttp.ClientSession, openai: OpenAIServer, finish: str, reason: str
) -> None:
    openai.play(streamed(*answer("a", finish=finish)))
    assert (await completed(client(session, openai))).stop_reason == reason


async def test_a_server_that_does_not_stream_is_read_too(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    whole = chunk(
        choices=[{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        usage=usage(3, 1),
    )
    openai.play(Reply([json.dumps(whole).encode()], content_type="application/json"))
    done = await completed(client(session, openai))
    assert (done.content, done.usage) == ("Hi", Usage(3, 1))


async def test_the_stream_may_end_without_done_and_without_a_last_empty_line(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    openai.play(Reply([events(*answer("Hi"), done=False).rstrip(b"\n")]))
    assert (await completed(client(session, openai))).content == "Hi"


async def test_a_whole_answer_survives_a_connection_that_breaks_after_it(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    openai.play(Reply([events(*answer("Hi"), done=False), 0.05], ending="drop"))
    assert (await completed(client(session, openai))).content == "Hi"


async def test_the_connection_is_used_again(session: aiohttp.ClientSession, openai: OpenAIServer) -> None:
    made = 0

    async def count(*_: object) -> None:
        nonlocal made
        made += 1

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(count)
    async with aiohttp.ClientSession(trace_configs=[trace]) as traced:
        trace.freeze()
        for _ in range(3):
            await completed(client(traced, openai))
    assert made == 1


TRICKY = events(
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "hm… "}),
    chunk({"content": "Grüße, 世界 🦊\n\ndata: not a field"}),
    chunk({"tool_calls": [call_part(0, "a", "shell", '{"command": "echo')]}),
    chunk({"tool_calls": [call_part(0, None, None, ' é"}'), call_part(1, "b", "shell", "{}")]}),
    chunk({}, finish="tool_calls"),
    chunk(usage=usage(9, 9)),
)
# One event's JSON over two data lines, a comment and other fields.
TRICKY = b": OPENROUTER PROCESSING\n\nevent: x\nid: 1\nretry: 5\n" + TRICKY.replace(
    b', "object"', b',\ndata: "object"', 1
)


def joined(pieces: list[bytes]) -> list[object]:
    """Everything that reading these pieces gives, with neighbouring deltas joined."""
    whole = Answer(Wire(None, provider="x", base_url="http://x", headers={}, timeouts=Timeouts()), request())  # type: ignore[arg-type]
    reader, got = EventReader(), []
    for piece in [*pieces, b""]:
        for event in reader.feed(piece) if piece else reader.end():
            whole.feed(event)
        got += whole.take()
    parts: dict[object, str] = {}
    for delta in got:
        key = (delta.index, delta.id, delta.name) if isinstance(delta, ToolCallDelta) else type(delta)
        text = delta.arguments if isinstance(delta, ToolCallDelta) else delta.text  # type: ignore[union-attr]
        parts[key] = parts.get(key, "") + text
    return [parts, whole.completed()]


WHOLE = joined([TRICKY])


def test_a_stream_with_everything_in_it_is_understood() -> None:
    done = WHOLE[1]
    assert isinstance(done, Completed)
    assert done.content == "Grüße, 世界 🦊\n\ndata: not a field"
    assert done.tool_calls == (ToolCall("a", "shell", '{"command": "echo é"}'), ToolCall("b", "shell", "{}"))
    assert (done.reasoning, done.usage) == ("hm… ", Usage(9, 9))


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@given(cuts=st.lists(st.integers(0, len(TRICKY) + 100), max_size=40))
def test_however_the_network_cuts_the_stream_the_answer_is_the_same(newline: bytes, cuts: list[int]) -> None:
    data = TRICKY.replace(b"\n", newline)
    at = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    assert joined([data[start:end] for start, end in itertools.pairwise(at)]) == WHOLE


def test_byte_by_byte_the_answer_is_the_same() -> None:
    assert joined([bytes([byte]) for byte in TRICKY.replace(b"\n", b"\r\n")]) == WHOLE


async def test_odd_cuts_on_the_wire_change_nothing(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    cut = [TRICKY[start : start + 97] for start in range(0, len(TRICKY), 97)]
    openai.play(Reply([part for piece in cut for part in (piece, 0.001)]))
    assert await completed(client(session, openai)) == WHOLE[1]


# ---- what goes wrong ----


async def test_a_wrong_key_is_named_without_showing_it(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    with pytest.raises(KeyRejected) as failure:
        await completed(client(session, openai, api_key="sk-secret-9876"))
    assert failure.value.status == 401
    assert "Incorrect API key" in failure.value.detail
    assert "sk-secret-9876" not in failure.value.detail


async def test_an_unknown_model_is_named(session: aiohttp.ClientSession, openai: OpenAIServer) -> None:
    with pytest.raises(ModelNotFound, match="gpt-99"):
        await completed(client(session, openai), request(model="gpt-99"))


async def test_a_conversation_that_is_too_long_is_told_apart(session: aiohttp.ClientSession) -> None:
    with OpenAIServer(context_chars=1000) as server, pytest.raises(ContextOverflow):
        await completed(client(session, server), request(ChatMessage(role="user", content="x" * 2000)))


async def test_a_history_the_vendor_refuses_is_a_bad_request(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    with pytest.raises(BadModelRequest, match="tool_calls") as failure:
        await completed(
            client(session, openai), request(ChatMessage(role="tool", content="?", tool_call_id="none"))
        )
    assert not failure.value.retryable


def error(message: str, code: str | int | None = None, kind: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "code": code, "type": kind}}


@pytest.mark.parametrize(
    ("reply", "kind", "retryable"),
    [
        (
            refusal(429, error("Rate limit reached", "rate_limit_exceeded"), {"Retry-After": "2"}),
            RateLimited,
            True,
        ),
        (refusal(429, error("You exceeded your current quota", "insufficient_quota")), RateLimited, False),
        (refusal(429, error("Request too large for gpt-4o on tokens per min")), RateLimited, False),
        (refusal(402, error("Insufficient credits", 402)), RateLimited, False),
        (refusal(403, error("Country not supported")), KeyRejected, False),
        (refusal(403, error("Your input was flagged", 403)), BadModelRequest, False),
        (refusal(500, error("The server had an error")), UpstreamFailed, True),
        (refusal(503, {"error": "overloaded"}), UpstreamFailed, True),
        (refusal(400, error("nope/nope is not a valid model ID", 400)), ModelNotFound, False),
        (refusal(404, {"detail": "Not Found"}), BadModelRequest, False),
        (refusal(422, {"detail": [{"msg": "field required"}]}), BadModelRequest, False),
        (
            refusal(
                400, error("the request exceeds the available context size", 400, "exceed_context_size_error")
            ),
            ContextOverflow,
            False,
        ),
        (
            refusal(
                400, {"object": "error", "message": "This model's maximum context length is 4096 tokens"}
            ),
            ContextOverflow,
            False,
        ),
        (Reply([b"<html>Bad gateway</html>"], 502, "text/html"), UpstreamFailed, True),
        (Reply([], 307, headers={"Location": "http://127.0.0.1:1/"}), BadModelRequest, False),
    ],
)
async def test_refusals_are_told_apart(
    session: aiohttp.ClientSession,
    openai: OpenAIServer,
    reply: Reply,
    kind: type[ModelError],
    retryable: bool,
) -> None:
    openai.play(reply)
    with pytest.raises(ModelError) as failure:
        await completed(client(session, openai))
    assert type(failure.value) is kind
    assert failure.value.retryable is retryable
    assert failure.value.status == reply.status
    assert failure.value.provider == "openai"
    assert failure.value.detail


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "2"}, 2.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "-1"}, 0.0),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "inf"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_how_long_to_wait_as_a_date() -> None:
    waits = retry_after({"Retry-After": formatdate(time() + 30, usegmt=True)})
    assert waits is not None
    assert 25 < waits <= 30


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (error("Upstream is down", 502), UpstreamFailed),
        (error("Rate limited", 429), RateLimited),
        (error("The server had an error", None, "server_error"), UpstreamFailed),
        (error("Provider returned error", "rate_limit_exceeded"), RateLimited),
        (error("maximum context length is 8192 tokens"), ContextOverflow),
        ({"error": "out of memory"}, UpstreamFailed),
        (chunk({"content": ""}, finish="error"), UpstreamFailed),
    ],
)
async def test_an_error_in_the_middle_of_the_stream_ends_it(
    session: aiohttp.ClientSession, openai: OpenAIServer, body: dict[str, Any], kind: type[ModelError]
) -> None:
    openai.play(streamed(chunk({"content": "Hel"}), body))
    with pytest.raises(ModelError) as failure:
        await completed(client(session, openai))
    assert type(failure.value) is kind


@pytest.mark.parametrize(
    "reply",
    [
        Reply([events(chunk({"content": "Hel"}), done=False)]),
        Reply([events(chunk({"content": "Hel"}), done=False), 0.02], ending="drop"),
        Reply([events(chunk({"content": "Hel"}), '{"choices": [', done=True)]),
        Reply([events(chunk({"content": "Hel"}), '{"choices": 5}', done=True)]),
        Reply([b"data: \xff\xfe\n\n"]),
        Reply([events()]),
        Reply([b""]),
        Reply([b"not json"], content_type="application/json"),
    ],
    ids=[
        "ends",
        "drops",
        "broken json",
        "wrong json",
        "not utf-8",
        "only done",
        "nothing",
        "not json at all",
    ],
)
async def test_a_stream_that_does_not_finish_is_a_failure(
    session: aiohttp.ClientSession, openai: OpenAIServer, reply: Reply
) -> None:
    openai.play(reply)
    with pytest.raises(UpstreamFailed) as failure:
        await completed(client(session, openai))
    assert failure.value.retryable


async def test_nobody_at_the_address_is_a_failure_that_names_it(session: aiohttp.ClientSession) -> None:
    with OpenAIServer() as server:
        gone = client(session, server)
    with pytest.raises(UpstreamFailed, match=r"Cannot reach http://127\.0\.0\.1"):
        await completed(gone)


async def test_a_private_address_that_nobody_allowed_names_the_setting(openai: OpenAIServer) -> None:
    async with open_session(frozenset()) as guarded:
        with pytest.raises(NotConfigured, match=openai.url.removeprefix("http://")) as failure:
            await completed(client(guarded, openai))
    assert failure.value.setting == "VIBE_PRIVATE_TARGETS"
    assert openai.sent == []


@pytest.mark.parametrize(
    ("base_url", "kind"),
    [
        ("http://no-such-host.invalid/v1", UpstreamFailed),
        ("ftp://127.0.0.1/v1", BadModelRequest),
        ("not an address", BadModelRequest),
        ("http://user:pw@127.0.0.1:1/v1", BadModelRequest),
    ],
)
async def test_an_address_that_leads_nowhere_is_an_error_with_words(
    session: aiohttp.ClientSession, openai: OpenAIServer, base_url: str, kind: type[ModelError]
) -> None:
    with pytest.raises(ModelError) as failure:
        await completed(client(session, openai, base_url=base_url))
    assert type(failure.value) is kind


@pytest.mark.parametrize(
    "reply",
    [
        Reply([1.0]),
        Reply((b": still here\n\n", 0.05) * 20),
        Reply([events(chunk({"content": "Hel"}), done=False)], ending="hang"),
        Reply([events(chunk({"content": "Hel"}), done=False), *((b": still here\n\n", 0.05) * 20)]),
    ],
    ids=["silent", "only comments", "hangs in the middle", "comments in the middle"],
)
async def test_silence_ends_at_its_deadline(
    session: aiohttp.ClientSession, openai: OpenAIServer, reply: Reply
) -> None:
    openai.play(reply)
    with pytest.raises(UpstreamTimeout) as failure:
        await completed(client(session, openai, timeouts=Timeouts(connect=1, first_byte=0.2, idle=0.2)))
    assert failure.value.retryable
    assert "0.2 s" in failure.value.detail


async def test_a_slow_answer_that_keeps_coming_is_not_silence(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    parts = [part for n in range(8) for part in (events(chunk({"content": f"{n}"}), done=False), 0.1)]
    openai.play(Reply([*parts, events(chunk({}, finish="stop"))]))
    done = await completed(client(session, openai, timeouts=Timeouts(connect=1, first_byte=0.5, idle=0.5)))
    assert done.content == "01234567"


async def test_many_streams_are_read_seldom_and_whole(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    words, streams, beat = 40, 80, Beat()
    parts = [part for n in range(words) for part in (events(chunk({"content": f"{n} "}), done=False), 0.005)]
    openai.play(*[Reply([*parts, events(chunk({}, finish="stop"))]) for _ in range(streams)])
    together = await asyncio.gather(*[all_of(client(session, openai, beat=beat)) for _ in range(streams)])
    assert {events[-1].content for events in together if isinstance(events[-1], Completed)} == {
        "".join(f"{n} " for n in range(words))
    }
    assert sum(len(events) - 1 for events in together) < words * streams / 2
    assert beat.streams == 0


async def test_a_few_streams_are_read_at_once(session: aiohttp.ClientSession, openai: OpenAIServer) -> None:
    parts = [part for n in range(6) for part in (events(chunk({"content": f"{n} "}), done=False), 0.05)]
    openai.play(Reply([*parts, events(chunk({}, finish="stop"))]))
    assert len(await all_of(client(session, openai, beat=Beat()))) == 6 + 1


async def test_leaving_the_stream_ends_the_call_upstream(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    openai.play(Reply([events(chunk({"content": "Hel"}), done=False)], ending="hang"))
    async with aclosing(client(session, openai).stream(request())) as stream:
        async for event in stream:
            assert event == TextDelta("Hel")
            break
    assert await asyncio.to_thread(openai.client_left.wait, 5)


# ---- the listing ----


async def test_the_listing_leaves_out_what_does_not_chat(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    openai.listing = {
        "data": [{"id": name} for name in ("gpt-4o", "tts-1", "gpt-4o-realtime-preview", "o3", "whisper-1")]
    }
    models = await client(session, openai).models()
    assert models == [
        ModelInfo("gpt-4o", context_tokens=128_000, max_output_tokens=16_384, supports_tools=True),
        ModelInfo("o3", context_tokens=200_000, max_output_tokens=100_000, supports_tools=True),
    ]


async def test_prices_of_the_listing_are_exact_integers(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    openai.listing = {
        "data": [
            {
                "id": "openai/gpt-4o-mini",
                "context_length": 128000,
                "pricing": {
                    "prompt": "0.00000015",
                    "completion": "0.0000006",
                    "input_cache_read": "0.000000075",
                },
                "top_provider": {"max_completion_tokens": 16384},
                "supported_parameters": ["tools", "temperature"],
            },
            {
                "id": "openrouter/auto",
                "pricing": {"prompt": "-1", "completion": "-1"},
                "supported_parameters": [],
            },
            {"id": "free/model", "pricing": {"prompt": "0", "completion": 0}},
        ]
    }
    assert await client(session, openai, "openrouter").models() == [
        ModelInfo("openai/gpt-4o-mini", 128000, 16384, True, 150_000, 600_000, 75_000),
        ModelInfo("openrouter/auto", supports_tools=False),
        ModelInfo("free/model", input_price=0, output_price=0),
    ]


def test_a_price_between_two_integers_is_rounded_up() -> None:
    assert micro_usd_per_million(Decimal("0.0000000000011")) == 2


@pytest.mark.parametrize(
    "row",
    [
        {"max_model_len": 4096},
        {"context_window": 4096},
        {"max_context_length": 4096},
        {"meta": {"n_ctx_train": 4096}},
    ],
)
async def test_each_server_s_word_for_the_context_is_known(
    session: aiohttp.ClientSession, openai: OpenAIServer, row: dict[str, Any]
) -> None:
    openai.listing = {"object": "list", "data": [{"id": "m"} | row]}
    assert (await client(session, openai, "custom").models())[0].context_tokens == 4096


async def test_a_listing_that_makes_no_sense_is_an_error_not_an_empty_list(
    session: aiohttp.ClientSession, openai: OpenAIServer
) -> None:
    openai.listing = {"models": []}
    with pytest.raises(UpstreamFailed):
        await client(session, openai).models()


def test_a_server_on_this_machine_counts_as_local(session: aiohttp.ClientSession) -> None:
    custom = BY_NAME["custom"]
    assert OpenAICompatible(custom, session, base_url="http://127.0.0.1:8000/v1").kind == "local"
    assert OpenAICompatible(custom, session, base_url="https://models.example.org/v1").kind == "centralized"
