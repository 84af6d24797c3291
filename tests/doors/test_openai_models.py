"""OpenAI's client straight to a model: chat completions and responses, tools, errors, and what the model's server is sent."""

import asyncio
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from tests.agent.conftest import member
from tests.client import Person, Product, script
from tests.product import Started
from tests.wire.openai_server import OpenAIServer, answer, chunk, events, streamed, usage
from tests.wire.server import Reply, refusal

DEMO = "scripted/demo"
M = "custom/m"
WEATHER: Any = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def said(*words: str) -> Reply:
    return streamed(*answer(*words, told=usage(10, 5, cached=4, reasoning=1)))


# Models -----------------------------------------------------------------------------------------------------------------


async def test_agents_the_default_and_every_model_are_listed(client: AsyncOpenAI, ada: Product) -> None:
    agent = await ada.agent(name="Scout of the north")
    twins = [await ada.agent(name="Twin") for _ in range(2)]
    await ada.ask("PUT", "/api/inference/settings", {"default_model": DEMO})
    listed = [model async for model in client.models.list()]
    assert [model.id for model in listed][:3] == ["agent/Scout of the north", *(twin["agent_id"] for twin in twins)]
    assert {"auto", DEMO, M} <= {model.id for model in listed}
    for name in (*(model.id for model in listed), agent["agent_id"]):
        assert (await client.models.retrieve(name)).id == name
    for name in ("agent/nobody", "custom/nothing", agent["agent_id"][:-1] + "z", "x"):
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve(name)


async def test_auto_is_the_default_model_and_says_what_to_set_without_one(client: AsyncOpenAI, ada: Product) -> None:
    with pytest.raises(openai.InternalServerError) as refused:
        await client.chat.completions.create(model="auto", messages=user("hello"))
    assert refused.value.status_code == 503 and refused.value.code == "not_configured"
    await ada.ask("PUT", "/api/inference/settings", {"default_model": DEMO})
    told = await client.chat.completions.create(model="auto", messages=user(script("say fine")))
    assert told.choices[0].message.content == "fine"


# Chat completions -------------------------------------------------------------------------------------------------------


async def test_a_completion_has_text_usage_and_an_end(client: AsyncOpenAI, wire: OpenAIServer) -> None:
    wire.play(said("Hel", "lo."))
    told = await client.chat.completions.create(model=M, messages=user("hi"))
    assert told.id.startswith("chatcmpl-") and told.model == M
    assert told.choices[0].message.content == "Hello." and told.choices[0].finish_reason == "stop"
    assert told.usage is not None and told.usage.prompt_tokens_details is not None and told.usage.completion_tokens_details is not None
    assert (told.usage.prompt_tokens, told.usage.completion_tokens, told.usage.total_tokens) == (10, 5, 15)
    assert (told.usage.prompt_tokens_details.cached_tokens, told.usage.completion_tokens_details.reasoning_tokens) == (4, 1)


@pytest.mark.parametrize("include_usage", [True, False])
async def test_a_stream_says_the_same_in_pieces(client: AsyncOpenAI, wire: OpenAIServer, include_usage: bool) -> None:
    wire.play(said("Hel", "lo."))
    stream = await client.chat.completions.create(model=M, messages=user("hi"), stream=True, stream_options={"include_usage": include_usage})
    chunks = [one async for one in stream]
    assert len({one.id for one in chunks}) == 1
    choices = [one.choices[0] for one in chunks if one.choices]
    assert choices[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in choices) == "Hello."
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    told = [one.usage.total_tokens for one in chunks if one.usage]
    assert told == ([15] if include_usage else [])
    assert (not chunks[-1].choices) == include_usage


async def test_what_the_client_asks_for_reaches_the_model(client: AsyncOpenAI, wire: OpenAIServer) -> None:
    messages: Any = [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "user", "content": [{"type": "text", "text": "and then?"}]},
    ]
    await client.chat.completions.create(
        model=M, messages=messages, tools=[WEATHER], tool_choice="required", temperature=0.5, top_p=0.9, max_completion_tokens=50, stop=["END", "."],
        seed=7, parallel_tool_calls=False, response_format={"type": "json_object"}, n=1, user="somebody", metadata={"a": "b"},
    )  # fmt: skip
    (sent,) = wire.sent
    assert [(m["role"], m.get("content")) for m in sent["messages"]] == [
        ("system", "Be brief."), ("user", "weather?"), ("assistant", None), ("tool", "sun"), ("user", "and then?"),
    ]  # fmt: skip
    assert sent["messages"][2]["tool_calls"] == messages[2]["tool_calls"]
    assert sent["tools"][0]["function"]["name"] == "weather"
    expected = {"tool_choice": "required", "temperature": 0.5, "top_p": 0.9, "max_tokens": 50, "stop": ["END", "."], "seed": 7}
    assert expected.items() <= sent.items()
    assert sent["parallel_tool_calls"] is False and sent["response_format"] == {"type": "json_object"}


def asked_calls() -> Reply:
    """Two calls side by side, in pieces."""
    return streamed(
        chunk({"role": "assistant", "content": "Let me look."}),
        chunk({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}),
        chunk({"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]}),
        chunk({}, finish="tool_calls"),
        chunk(usage=usage(10, 5)),
    )


CALLS = [("c1", "weather", '{"city":"Rome"}'), ("c2", "weather", "{}")]


async def test_tools_are_the_clients_own_and_their_calls_come_back(client: AsyncOpenAI, wire: OpenAIServer) -> None:
    wire.play(asked_calls(), asked_calls())
    told = await client.chat.completions.create(model=M, messages=user("weather?"), tools=[WEATHER])
    assert told.choices[0].finish_reason == "tool_calls" and told.choices[0].message.content == "Let me look."
    calls: Any = told.choices[0].message.tool_calls
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == CALLS
    async with client.chat.completions.stream(model=M, messages=user("weather?"), tools=[WEATHER]) as stream:
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == CALLS
    assert final.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("finish", ["length", "content_filter"])
async def test_an_answer_that_was_cut_says_so(client: AsyncOpenAI, wire: OpenAIServer, finish: str) -> None:
    wire.play(streamed(*answer("half", finish=finish)))
    told = await client.chat.completions.create(model=M, messages=user("hi"))
    assert told.choices[0].finish_reason == finish


async def test_thoughts_are_told_beside_the_answer(client: AsyncOpenAI) -> None:
    ask = user(script("think hm", "say yes"))
    told = await client.chat.completions.create(model=DEMO, messages=ask)
    assert (told.choices[0].message.content, getattr(told.choices[0].message, "reasoning_content", None)) == ("yes", "hm")


# Errors -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        (refusal(401, {"error": {"message": "bad key"}}), 502, "provider_key_rejected"),
        (refusal(429, {"error": {"message": "slow down"}}, {"Retry-After": "7"}), 429, "rate_limit_exceeded"),
        (refusal(429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}), 429, "insufficient_quota"),
        (refusal(503, {"error": {"message": "overloaded"}}), 502, "upstream_failed"),
        (refusal(400, {"error": {"message": "bad temperature"}}), 400, "bad_model_request"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_fails_at_once_is_a_status(client: AsyncOpenAI, wire: OpenAIServer, reply: Reply, status: int, code: str, stream: bool) -> None:
    wire.play(reply)
    with pytest.raises(openai.APIStatusError) as failed:
        await client.chat.completions.create(model=M, messages=user("hi"), stream=stream)
    assert (failed.value.status_code, failed.value.code) == (status, code)
    assert failed.value.response.headers.get("Retry-After") == ("7" if code == "rate_limit_exceeded" else None)


async def test_a_conversation_that_is_too_long_is_called_so(client: AsyncOpenAI, wire: OpenAIServer) -> None:
    wire.context_chars = 100
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model=M, messages=user("long " * 100))
    assert refused.value.code == "context_length_exceeded"


async def test_an_answer_that_breaks_in_the_middle_ends_with_an_error(client: AsyncOpenAI, wire: OpenAIServer) -> None:
    broken = Reply([events(*answer("half ", "an ")[:3], done=False)], ending="drop")
    wire.play(broken, broken)
    heard = ""
    with pytest.raises(openai.APIError):
        async for one in await client.chat.completions.create(model=M, messages=user("hi"), stream=True):
            heard += one.choices[0].delta.content or ""
    assert heard == "half an "
    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(model=M, messages=user("hi"))


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "system", "content": "only"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"n": 2}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"model": "custom/other"}, "model"),
        ({"model": "nonsense"}, "model"),
        ({"model": "agent/nobody"}, "model"),
        ({"logprobs": True}, "logprobs"),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_the_place(client: AsyncOpenAI, change: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        await client.chat.completions.create(**({"model": M, "messages": user("hi")} | change))
    assert refused.value.status_code == (404 if param == "model" else 400)
    assert refused.value.param == param and refused.value.type == "invalid_request_error"


async def test_every_refusal_is_in_openais_shape_and_nobody_may_keep_an_answer(door: Started, person: Person) -> None:
    async with httpx.AsyncClient(base_url=door.url, timeout=20) as http:
        for key in (None, "sk-wrong", "vibe_wrong"):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            told = await http.post("/v1/chat/completions", json={"model": DEMO, "messages": user("hi")}, headers=headers)
            assert told.status_code == 401 and told.json()["error"]["code"] == "invalid_api_key"
            assert told.headers["Cache-Control"] == "no-store"
        http.headers["Authorization"] = f"Bearer {person.key}"
        broken = await http.post("/v1/responses", content=b"{", headers={"Content-Type": "application/json"})
        assert broken.status_code == 400 and broken.json()["error"]["type"] == "invalid_request_error"
        off = await http.post("/v1/embeddings", json={"model": M, "input": "x"})
        assert off.status_code == 503 and off.json()["error"]["code"] == "not_configured"
        fine = await http.get("/v1/models")
        assert fine.headers["Cache-Control"] == "no-store" and fine.headers["X-Request-Id"]
        assert (await http.get("/v1/nothing")).status_code == 404


async def test_a_viewer_may_look_but_not_ask(door: Started, ada: Product, database: Any, servers: Any) -> None:
    viewer = await member(database, servers.admin_dsn, "eve@example.org", role="viewer", of=ada.person)
    async with AsyncOpenAI(base_url=f"{door.url}/v1", api_key=viewer.key, max_retries=0) as client:
        assert [model async for model in client.models.list()]
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(model=DEMO, messages=user("hi"))
        with pytest.raises(openai.PermissionDeniedError):
            await client.responses.create(model=DEMO, input="hi")


@pytest.mark.parametrize("stream", [True, False])
async def test_when_the_client_leaves_the_model_is_left_too(client: AsyncOpenAI, wire: OpenAIServer, stream: bool) -> None:
    wire.play(Reply([events(*answer("never ")[:2], done=False)], ending="hang"))
    asking = asyncio.create_task(_ask(client, stream))
    async with asyncio.timeout(10):
        while not wire.sent:
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait({asking})
    # The server notices when it writes again or its client's connection closes.
    assert await asyncio.to_thread(wire.client_left.wait, 10)


async def _ask(client: AsyncOpenAI, stream: bool) -> None:
    told = await client.chat.completions.create(model=M, messages=user("hi"), stream=stream)
    if not isinstance(told, openai.AsyncStream):
        return
    async for _ in told:
        pass


# Responses --------------------------------------------------------------------------------------------------------------

TOOL: Any = {"type": "function", "name": "weather", "description": "The weather.", "parameters": WEATHER["function"]["parameters"], "strict": False}


async def test_a_response_has_text_usage_and_an_end(client: AsyncOpenAI, wire: OpenAIServer) -> None:
    wire.play(said("Hel", "lo."))
    told = await client.responses.create(model=M, input="hi", instructions="Be brief.", max_output_tokens=50, temperature=0.5)
    assert told.output_text == "Hello." and told.status == "completed" and told.instructions == "Be brief."
    assert told.usage is not None and (told.usage.input_tokens, told.usage.output_tokens, told.usage.total_tokens) == (10, 5, 15)
    assert [m["content"] for m in wire.sent[0]["messages"]] == ["Be brief.", "hi"]
    assert (wire.sent[0]["max_tokens"], wire.sent[0]["temperature"]) == (50, 0.5)


async def test_the_events_of_a_response_come_in_order(client: AsyncOpenAI) -> None:
    stream = await client.responses.create(model=DEMO, input=script("think hm", "say yes", ("weather", {"city": "Rome"})), tools=[TOOL], stream=True)
    told = [event async for event in stream]
    assert [event.sequence_number for event in told] == list(range(len(told)))
    part = ["response.output_item.added", "response.content_part.added"]
    assert [event.type for event in told] == [
        "response.created", "response.in_progress",
        *part, "response.reasoning_text.delta", "response.reasoning_text.done", "response.content_part.done", "response.output_item.done",
        *part, "response.output_text.delta", "response.output_text.done", "response.content_part.done", "response.output_item.done",
        "response.output_item.added", "response.function_call_arguments.delta", "response.function_call_arguments.done", "response.output_item.done",
        "response.completed",
    ]  # fmt: skip
    final: Any = told[-1]
    assert [item.type for item in final.response.output] == ["reasoning", "message", "function_call"]
    assert final.response.output[2].arguments == '{"city": "Rome"}' and final.response.output_text == "yes"


async def test_the_clients_own_reader_puts_a_streamed_response_together(client: AsyncOpenAI, wire: OpenAIServer) -> None:
    wire.play(asked_calls(), asked_calls())
    whole: Any = await client.responses.create(model=M, input="weather?", tools=[TOOL])
    async with client.responses.stream(model=M, input="weather?", tools=[TOOL]) as stream:
        async for _ in stream:
            pass
        final: Any = await stream.get_final_response()
    for told in (whole, final):
        calls = [item for item in told.output if item.type == "function_call"]
        assert [(call.call_id, call.name, call.arguments) for call in calls] == CALLS
        assert told.output_text == "Let me look."


async def test_a_conversation_with_calls_goes_on(client: AsyncOpenAI, wire: OpenAIServer) -> None:
    wire.play(asked_calls(), said("Sun."))
    first: Any = await client.responses.create(model=M, input="weather?", tools=[TOOL])
    results: Any = [{"type": "function_call_output", "call_id": id, "output": "sun"} for id, _, _ in CALLS]
    items: Any = [{"role": "user", "content": "weather?"}, *(item.model_dump(exclude_none=True) for item in first.output), *results]
    second = await client.responses.create(model=M, input=items, tools=[TOOL])
    assert second.output_text == "Sun."
    sent = wire.sent[1]["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "tool"]
    assert sent[1]["content"] == "Let me look." and [call["id"] for call in sent[1]["tool_calls"]] == ["c1", "c2"]


async def test_a_response_that_was_cut_or_failed_says_so(client: AsyncOpenAI, wire: OpenAIServer) -> None:
    wire.play(streamed(*answer("half", finish="length")), Reply([events(*answer("half ")[:2], done=False)], ending="drop"))
    cut = await client.responses.create(model=M, input="hi")
    assert cut.status == "incomplete" and cut.incomplete_details is not None and cut.incomplete_details.reason == "max_output_tokens"
    told: list[Any] = [event async for event in await client.responses.create(model=M, input="hi", stream=True)]
    assert told[-1].type == "response.failed" and told[-1].response.error.message
    assert told[-1].response.output[0].content[0].text == "half "


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"previous_response_id": "resp_0"}, 400),
        ({"input": [{"type": "input_image"}]}, 400),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, 400),
        ({"input": [{"type": "function_call", "name": "x"}]}, 400),
        ({"tools": [{"type": "web_search"}]}, 400),
        ({"background": True}, 400),
        ({"model": "agent/nobody"}, 404),
    ],
)
async def test_a_response_that_cannot_be_made_is_refused(client: AsyncOpenAI, change: dict[str, Any], status: int) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        await client.responses.create(**({"model": M, "input": "hi"} | change))
    assert refused.value.status_code == status


async def test_a_models_response_is_not_kept(client: AsyncOpenAI) -> None:
    told = await client.responses.create(model=DEMO, input="hi")
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(told.id)
