"""OpenAI's client to an agent: whole threads behind it, runs that survive it, people who are asked."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import openai
import pytest
from openai import AsyncOpenAI

from tests.agent.conftest import member
from tests.agent.watching import decide, event_of, pending, status_is
from tests.client import Product, script
from tests.product import Started

pytestmark = pytest.mark.usefixtures("worker")
TALKATIVE: dict[str, Any] = {"tools": []}
SLOW = script("pace 20", "say 600 words")  # half a minute


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


async def messages(ada: Product, thread_id: str) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in await ada.messages(thread_id)]


async def asked(client: AsyncOpenAI, model: str, text: str, **more: Any) -> tuple[str, str]:
    """What the agent says, and its thread."""
    raw = await client.chat.completions.with_raw_response.create(model=model, messages=user(text), **more)
    told = raw.parse()
    return told.choices[0].message.content or "", raw.headers["X-Thread-Id"]


# Chat completions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["id", "name"])
async def test_an_agent_answers_by_its_id_and_by_its_name(client: AsyncOpenAI, ada: Product, by: str) -> None:
    agent = await ada.agent(name="Scout", **TALKATIVE)
    model = agent["agent_id"] if by == "id" else "agent/Scout"
    told = await client.chat.completions.create(model=model, messages=user(script("say Hello from the agent.", "usage 20 7 5")))
    assert told.choices[0].message.content == "Hello from the agent." and told.choices[0].finish_reason == "stop"
    assert told.usage is not None and (told.usage.prompt_tokens, told.usage.completion_tokens) == (20, 7)
    (thread,) = (await ada.ask("GET", "/api/threads"))["items"]
    assert [role for role, _ in await messages(ada, thread["thread_id"])] == ["user", "assistant"]
    assert told.id == f"chatcmpl-{UUID((await ada.messages(thread['thread_id']))[1]['run_id']).hex}"


async def test_two_agents_of_one_name_have_to_be_told_apart(client: AsyncOpenAI, ada: Product) -> None:
    for _ in range(2):
        await ada.agent(name="Twin", **TALKATIVE)
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="agent/Twin", messages=user("hi"))
    assert refused.value.param == "model"


async def test_a_stream_tells_a_run_as_it_goes_with_its_tools_left_out(client: AsyncOpenAI, ada: Product) -> None:
    agent = await ada.agent()
    text = script("say First I look.", ("write_file", {"path": "a.txt", "content": "x"}), "say Then 40 words:", "say 40 words")
    stream = await client.chat.completions.create(model=agent["agent_id"], messages=user(text), stream=True, stream_options={"include_usage": True})
    chunks = [one async for one in stream]
    heard = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    (thread,) = (await ada.ask("GET", "/api/threads"))["items"]
    said = [content for role, content in await messages(ada, thread["thread_id"]) if role == "assistant"]
    assert heard == "\n\n".join(said) and len(said) == 2
    assert not any(one.choices[0].delta.tool_calls for one in chunks if one.choices)
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 0


async def test_a_history_becomes_the_beginning_of_a_thread(client: AsyncOpenAI, ada: Product) -> None:
    agent = await ada.agent(**TALKATIVE)
    history: Any = [
        {"role": "system", "content": "Answer in French."},
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "I am the other one."},
        {"role": "user", "content": script("say Bonjour.")},
    ]
    raw = await client.chat.completions.with_raw_response.create(model=agent["agent_id"], messages=history)
    thread = raw.headers["X-Thread-Id"]
    first, *rest = await messages(ada, thread)
    assert first[0] == "user" and "Answer in French." in first[1] and first[1].endswith("Who are you?")
    assert rest == [("assistant", "I am the other one."), ("user", script("say Bonjour.")), ("assistant", "Bonjour.")]
    assert [message["seq"] for message in await ada.messages(thread)] == [1, 2, 3, 4]
    assert (await ada.say(thread, script("say More.")))["status"] == "completed"


@pytest.mark.parametrize("how", ["header", "metadata", "user"])
async def test_a_thread_is_gone_on_with(client: AsyncOpenAI, ada: Product, how: str) -> None:
    agent = await ada.agent(**TALKATIVE)
    _, thread = await asked(client, agent["agent_id"], script("say One."))
    ways: dict[str, dict[str, Any]] = {
        "header": {"extra_headers": {"X-Thread-Id": thread}}, "metadata": {"metadata": {"thread_id": thread}}, "user": {"user": thread},
    }  # fmt: skip
    said, again = await asked(client, agent["agent_id"], script("say Two."), **ways[how])
    assert (said, again) == ("Two.", thread)
    assert [content for role, content in await messages(ada, thread) if role == "assistant"] == ["One.", "Two."]


async def test_a_thread_that_is_not_there_or_with_another_agent_is_refused(client: AsyncOpenAI, ada: Product) -> None:
    agent, other = await ada.agent(**TALKATIVE), await ada.agent(**TALKATIVE)
    with pytest.raises(openai.NotFoundError):
        await asked(client, agent["agent_id"], "hi", extra_headers={"X-Thread-Id": str(uuid4())})
    with pytest.raises(openai.BadRequestError):
        await asked(client, agent["agent_id"], "hi", extra_headers={"X-Thread-Id": "mine"})
    thread = await ada.thread(other)
    with pytest.raises(openai.BadRequestError):
        await asked(client, agent["agent_id"], "hi", metadata={"thread_id": thread})
    assert await messages(ada, thread) == []
    _, new = await asked(client, agent["agent_id"], script("say hi"), user=thread)  # `user` is anybody's id; only a fitting one is a thread
    assert new != thread


async def test_with_an_idempotency_key_asking_twice_is_one_run(client: AsyncOpenAI, ada: Product) -> None:
    agent = await ada.agent(**TALKATIVE)
    text, header = script("say Once."), {"extra_headers": {"Idempotency-Key": "k1"}}
    both = await asyncio.gather(*(asked(client, agent["agent_id"], text, **header) for _ in range(2)))
    assert both[0] == both[1] == ("Once.", both[0][1])
    assert len(await messages(ada, both[0][1])) == 2
    with pytest.raises(openai.ConflictError):
        await asked(client, agent["agent_id"], "something else", **header)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"stop": "x"}, "stop"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
    ],
)
async def test_what_an_agent_cannot_do_is_refused_and_starts_nothing(client: AsyncOpenAI, ada: Product, change: dict[str, Any], param: str) -> None:
    agent = await ada.agent(**TALKATIVE)
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(**({"model": agent["agent_id"], "messages": user("hi")} | change))
    assert refused.value.param == param
    assert (await ada.ask("GET", "/api/threads"))["items"] == []


# Endings ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_a_run_that_fails_is_an_error_that_no_client_sends_again(client: AsyncOpenAI, ada: Product, stream: bool) -> None:
    agent = await ada.agent(**TALKATIVE)
    retrying = client.with_options(max_retries=2)
    with pytest.raises(openai.APIError) as failed:
        told: Any = await retrying.chat.completions.create(model=agent["agent_id"], messages=user(script("fail quota")), stream=stream)
        async for _ in told:
            pass
    assert failed.value.code == "run_failed" and "credit" in failed.value.message
    (thread,) = (await ada.ask("GET", "/api/threads"))["items"]
    assert len(await messages(ada, thread["thread_id"])) == 1


async def test_an_answer_that_began_again_is_told_so(client: AsyncOpenAI, ada: Product) -> None:
    agent = await ada.agent(**TALKATIVE)
    text = script("pace 40", "say one two three four five six seven eight", "fail 503 times=1 retry-after=0", "say The end.")
    heard = ""
    async for one in await client.chat.completions.create(model=agent["agent_id"], messages=user(text), stream=True):
        heard += one.choices[0].delta.content or ""
    (thread,) = (await ada.ask("GET", "/api/threads"))["items"]
    assert heard == (await messages(ada, thread["thread_id"]))[-1][1]  # it said the same again, so nothing had to be told twice


async def test_an_act_that_waits_for_a_person_ends_the_answer_with_the_way_to_it(client: AsyncOpenAI, ada: Product) -> None:
    agent = await ada.agent(permissions={"write_file": "ask"})
    text = script("say I will write.", ("write_file", {"path": "a.txt", "content": "x"}), "say Done.")
    raw = await client.chat.completions.with_raw_response.create(model=agent["agent_id"], messages=user(text))
    told, thread, run = raw.parse(), raw.headers["X-Thread-Id"], raw.headers["X-Run-Id"]
    said = told.choices[0].message.content or ""
    assert said.startswith("I will write.") and "write_file" in said and f"/threads/{thread}" in said
    with pytest.raises(openai.ConflictError) as refused:
        await asked(client, agent["agent_id"], "and now?", extra_headers={"X-Thread-Id": thread})
    assert f"/threads/{thread}" in refused.value.message
    (approval,) = await pending(ada, run)
    waiting = await client.responses.retrieve(f"resp_{UUID(run).hex}")
    assert waiting.status == "in_progress"
    await decide(ada, approval)
    assert (await ada.finish(run))["status"] == "completed"
    done = await client.responses.retrieve(f"resp_{UUID(run).hex}")
    assert done.status == "completed" and done.output_text == "I will write.\n\nDone."


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("stops", [True, False])
async def test_a_run_goes_on_when_its_client_leaves_unless_that_was_asked_for(client: AsyncOpenAI, ada: Product, stream: bool, stops: bool) -> None:
    agent = await ada.agent(**TALKATIVE)
    headers = {"X-Stop-On-Disconnect": "true"} if stops else {}
    asking = asyncio.create_task(_listen(client, agent["agent_id"], stream, headers))
    run = await _only_run(ada)
    await event_of(ada, run, "message.delta")
    asking.cancel()
    await asyncio.wait({asking})
    if stops:
        assert (await status_is(ada, run, "stopped"))["status"] == "stopped"
    else:
        assert (await ada.ask("GET", f"/api/runs/{run}"))["status"] == "running"
        await ada.ask("POST", f"/api/runs/{run}/stop")
        assert (await ada.finish(run))["status"] == "stopped"


async def _listen(client: AsyncOpenAI, model: str, stream: bool, headers: dict[str, str]) -> None:
    told: Any = await client.chat.completions.create(model=model, messages=user(SLOW), stream=stream, extra_headers=headers)
    async for _ in told:
        pass


async def _only_run(ada: Product) -> str:
    async with asyncio.timeout(10):
        while not (threads := (await ada.ask("GET", "/api/threads"))["items"]) or threads[0]["active_run"] is None:
            await asyncio.sleep(0.02)
    return str(threads[0]["active_run"]["run_id"])


async def test_a_run_that_somebody_stops_ends_its_stream_with_that(client: AsyncOpenAI, ada: Product) -> None:
    agent = await ada.agent(**TALKATIVE)
    asking = asyncio.create_task(_listen(client, agent["agent_id"], True, {}))
    run = await _only_run(ada)
    await event_of(ada, run, "message.delta")
    await ada.ask("POST", f"/api/runs/{run}/stop")
    with pytest.raises(openai.APIError) as failed:
        await asking
    assert failed.value.code == "run_stopped"
    assert (await client.responses.retrieve(run)).status == "cancelled"


# Responses --------------------------------------------------------------------------------------------------------------


async def test_a_response_goes_on_from_the_one_before(client: AsyncOpenAI, ada: Product) -> None:
    agent = await ada.agent(name="Scout", **TALKATIVE)
    said_before: Any = [{"role": "user", "content": "Hm."}, {"role": "user", "content": script("say One.")}]
    first = await client.responses.create(model="agent/Scout", input=said_before, instructions="Be brief.")
    assert first.output_text == "One." and first.status == "completed" and first.metadata is not None
    second = await client.responses.create(model=agent["agent_id"], input=script("say Two."), previous_response_id=first.id)
    assert second.output_text == "Two." and second.previous_response_id == first.id and second.metadata is not None
    assert second.metadata["thread_id"] == first.metadata["thread_id"]
    said = await messages(ada, first.metadata["thread_id"])
    assert [role for role, _ in said] == ["user", "user", "assistant", "user", "assistant"]
    assert ["Be brief." in text for _, text in said] == [True, False, False, False, False]
    kept = await client.responses.retrieve(first.id)
    assert (kept.id, kept.output_text, kept.status) == (first.id, "One.", "completed")
    for other in ("resp_0", f"resp_{uuid4().hex}"):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(other)
        with pytest.raises(openai.BadRequestError):
            await client.responses.create(model="agent/Scout", input="hi", previous_response_id=other)


async def test_a_streamed_response_of_an_agent_ends_whole_or_failed(client: AsyncOpenAI, ada: Product) -> None:
    await ada.agent(name="Scout", **TALKATIVE)
    async with client.responses.stream(model="agent/Scout", input=script("think hm", "say 200 words")) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    assert len(final.output_text.split()) == 200
    told: list[Any] = [event async for event in await client.responses.create(model="agent/Scout", input=script("fail 400"), stream=True)]
    assert told[-1].type == "response.failed" and told[-1].response.error.message


# Tenants ----------------------------------------------------------------------------------------------------------------


async def test_nothing_of_another_account_can_be_named(client: AsyncOpenAI, ada: Product, door: Started, database: Any, servers: Any) -> None:
    agent = await ada.agent(name="Hers", **TALKATIVE)
    hers = await client.responses.create(model="agent/Hers", input=script("say secret"))
    assert hers.metadata is not None
    bob = await member(database, servers.admin_dsn, "bob@example.org")
    async with AsyncOpenAI(base_url=f"{door.url}/v1", api_key=bob.key, max_retries=0) as his, bob.at(door.url) as product:
        assert not [model.id async for model in his.models.list() if model.owned_by == "agent"]
        for model in (agent["agent_id"], "agent/Hers"):
            with pytest.raises(openai.NotFoundError):
                await his.chat.completions.create(model=model, messages=user("hi"))
        with pytest.raises(openai.NotFoundError):
            await his.responses.retrieve(hers.id)
        own = await product.agent(name="Own", **TALKATIVE)
        with pytest.raises(openai.BadRequestError):
            await his.responses.create(model=own["agent_id"], input="hi", previous_response_id=hers.id)
        with pytest.raises(openai.NotFoundError):
            await asked(his, own["agent_id"], "hi", extra_headers={"X-Thread-Id": hers.metadata["thread_id"]})


async def test_a_stream_is_not_kept_by_any_proxy(ada: Product, person: Any) -> None:
    agent = await ada.agent(**TALKATIVE)
    body = {"model": agent["agent_id"], "messages": user(script("say hi")), "stream": True}
    async with ada.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert "no-store" in answer.headers["Cache-Control"] and answer.headers["X-Accel-Buffering"] == "no"
        assert (await answer.aread()).endswith(b"data: [DONE]\n\n")
