"""What a watcher sees: every event of the union, the same end from any place, process or moment; text in few, small pieces."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from backend.agent.schemas import Message
from backend.agent.stream import NOTHING, EventId, Frame, RunStream, StreamWriter, read_log
from backend.kit import redis as kit_redis
from backend.kit.db import Database
from tests.agent.conftest import Sql
from tests.agent.watching import EVENT, Seen, decide, event_of, pending, status_is, watched
from tests.client import Product, script
from tests.conftest import Servers
from tests.product import Spawn

EVENTFUL = script(
    "think a little first",
    "say Let me look.",
    'call list_files {"path": "/workspace"} &',
    ("list_files", {"path": "/workspace", "depth": 2}),
    "say Now I write.",
    ("write_file", {"path": "notes.txt", "content": "one\ntwo\n"}),
    ("shell", {"command": "for n in 1 2 3; do echo line $n; sleep 0.05; done; exit 2"}),
    "malformed-call",
    "unknown-tool",
    "fail 503 times=1 retry-after=0",
    "say 60 words",
    "results",
)


async def saved(product: Product, thread: str) -> list[Message]:
    return [Message.model_validate(message) for message in await product.messages(thread)]


async def test_every_event_is_one_of_the_union_and_together_they_are_the_thread(ada: Product) -> None:
    thread = await ada.thread()
    run = await ada.send(thread, EVENTFUL)
    seen = await watched(ada, run["run_id"])
    assert seen.state["run"]["status"] == "completed"
    assert seen.state["partial"] is None
    assert seen.messages == await saved(ada, thread)
    ended = await ada.ask("GET", f"/api/runs/{run['run_id']}")
    for name in ("steps", "input_tokens", "output_tokens", "cost_micro_usd", "cost_known"):
        assert seen.state["run"][name] == ended[name]
    assert {
        "stream.snapshot", "context.built", "inference.routed", "message.started", "message.delta", "reasoning.delta", "message.restarted",
        "message.completed", "tool.arguments_delta", "tool.called", "tool.output", "tool.returned", "artifact.created", "usage.updated", "run.finished",
    } <= set(seen.types)  # fmt: skip


async def test_an_event_carries_nothing_that_its_class_does_not_say(ada: Product) -> None:
    run = await ada.send(await ada.thread(), EVENTFUL)
    async for _, event in ada.events(run["run_id"]):
        known = EVENT.validate_python(event)
        assert event.keys() <= type(known).model_fields.keys(), event["type"]


async def test_the_parts_of_a_context_add_up_and_stay_within_its_limit(ada: Product) -> None:
    thread = await ada.thread(limits={"context_tokens": 2_500})
    for number in range(6):
        run = await ada.send(thread, script(f"say {number}", "say 300 words"))
        built = await event_of(ada, run["run_id"], "context.built")
        assert built["total"] == sum(part["tokens"] for part in built["parts"]) <= built["limit"] == 2_500
        await ada.finish(run["run_id"])
    assert built["dropped"] > 0
    assert {part["name"] for part in built["parts"]} == {"system", "tools", "messages"}


async def test_a_watcher_who_comes_back_with_any_id_to_any_process_ends_the_same(ada: Product, spawn: Spawn) -> None:
    other = spawn.api()
    thread = await ada.thread()
    run = await ada.send(thread, EVENTFUL)
    whole = [(id, event) async for id, event in ada.events(run["run_id"])]
    complete = Seen()
    for id, event in whole:
        complete.apply(id, event)
    async with ada.person.at(other.url) as elsewhere:

        async def again(number: int) -> None:
            seen = Seen()
            for id, event in whole[: number + 1]:
                seen.apply(id, event)
            before = len(seen.types)
            await watched((ada, elsewhere)[number % 2], run["run_id"], whole[number][0], seen)
            assert seen.ends == complete.ends
            if number < len(whole) - 1:
                assert seen.types[before:] == complete.types[before:]  # nothing twice, nothing missed

        await asyncio.gather(*(again(number) for number in range(len(whole))))


async def test_a_watcher_of_a_live_run_who_leaves_and_comes_back_ends_the_same(ada: Product, spawn: Spawn) -> None:
    other = spawn.api()
    thread, chance = await ada.thread(tools=[]), random.Random(7)
    run = await ada.send(thread, script("pace 150", "think 40 words", "say 200 words"))
    async with ada.person.at(other.url) as elsewhere:

        async def restless(number: int) -> Seen:
            seen, patience = Seen(), chance.randint(1, 6)
            while not seen.types or seen.types[-1] != "run.finished":
                stream = (ada, elsewhere)[(number + len(seen.types)) % 2].events(run["run_id"], seen.last)
                left = patience
                async for id, event in stream:
                    seen.apply(id, event)
                    left -= 1
                    if left == 0:
                        break
                await stream.aclose()  # type: ignore[attr-defined]
            return seen

        steady, *others = await asyncio.gather(watched(ada, run["run_id"]), *(restless(number) for number in range(6)))
    assert steady.messages == await saved(ada, thread)
    for seen in others:
        assert seen.ends == steady.ends


@pytest.mark.parametrize("id", ["9999999999-3", "65536-999999", "1-1", "abc", "-1-0", "1-", "0x10-1", "99999999999999999999999-1", "65536-0-0"])
async def test_an_id_that_is_not_of_this_run_gets_the_whole_at_once(ada: Product, id: str) -> None:
    run = await ada.send(await ada.thread(tools=[]), script("pace 20", "say 600 words"))
    await event_of(ada, run["run_id"], "message.delta")
    async with asyncio.timeout(2):
        types = []
        async for _, event in ada.events(run["run_id"], id):
            types.append(event["type"])
            if event["type"] == "message.delta":
                break
    assert types[0] == "stream.snapshot"
    await ada.ask("POST", f"/api/runs/{run['run_id']}/stop")
    await ada.finish(run["run_id"])
    assert (await watched(ada, run["run_id"], id)).types[0] == "stream.snapshot"


async def test_a_silent_stream_is_kept_alive(ada: Product) -> None:
    run = await ada.send(await ada.thread(tools=[]), script("hang"))
    async with ada.http.stream("GET", f"/api/runs/{run['run_id']}/events", timeout=20) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert "no-transform" in response.headers["cache-control"]
        async for line in response.aiter_lines():
            if line.startswith(":"):
                break
        else:
            raise AssertionError("the stream ended")
    await ada.ask("POST", f"/api/runs/{run['run_id']}/stop")


async def test_a_watcher_of_a_queued_run_learns_its_place_and_then_everything(ada: Product) -> None:
    thread = await ada.thread(tools=[])
    first = await ada.send(thread, script("say one", "wait 2.5"))
    second = await ada.send(thread, script("say two"))
    seen = await watched(ada, second["run_id"])
    assert seen.types[0] == "stream.snapshot"
    assert "run.queued" in seen.types
    assert [m.content for m in seen.messages] == [script("say two"), "two"]
    assert (await ada.finish(first["run_id"]))["status"] == "completed"


async def test_a_thousand_fast_words_are_few_events_and_a_hundred_slow_ones_few_bytes(ada: Product) -> None:
    thread = await ada.thread(tools=[])
    run = await ada.send(thread, script("pace 2000", "say 1000 words"))
    seen = await watched(ada, run["run_id"])
    assert seen.types.count("message.delta") < 120
    run = await ada.send(thread, script("pace 100", "say 100 words"))
    size = 0
    async with ada.http.stream("GET", f"/api/runs/{run['run_id']}/events") as response:
        async for line in response.aiter_lines():
            if "message.delta" in line or line.startswith("id:"):
                size += len(line) + 2
    assert 500 < size < 6_000


async def test_a_run_that_went_on_after_a_person_answered_shows_all_it_said(ada: Product) -> None:
    """More than fits into the model's context was said before the question; a watcher still sees it all, and so does the run its message."""
    thread = await ada.thread(tools=["code_execution"], limits={"context_tokens": 4_000}, permissions={"shell_processes": "ask"})
    long = "for n in $(seq 120); do echo the quick brown fox jumps $n; done"
    calls = [("shell", {"command": f"echo {number}; {long}"}) for number in range(5)]
    run = await ada.send(thread, script(*calls, ("shell_processes", {}), "say finished as asked"))
    await status_is(ada, run["run_id"], "waiting_approval")
    await decide(ada, (await pending(ada, run["run_id"]))[0])
    seen = await watched(ada, run["run_id"])
    assert seen.state["run"]["status"] == "completed"
    assert seen.messages == await saved(ada, thread)
    assert seen.messages[-1].content == "finished as asked"


async def test_two_watchers_see_a_decision_that_came_at_once(ada: Product) -> None:
    thread = await ada.thread(permissions={"shell": "ask"})
    for decision in ("deny", "approve") * 3:
        run = await ada.send(thread, script(("shell", {"command": "echo hi"}), "say ok"))
        async for _, event in ada.events(run["run_id"]):
            if event["type"] == "approval.requested":
                await decide(ada, event["approval"], decision)
                break
            if event["type"] == "stream.snapshot" and event["approvals"]:
                await decide(ada, event["approvals"][0], decision)
                break
        seen = await watched(ada, run["run_id"])
        assert [a["status"] for a in seen.state["approvals"]] == [{"deny": "denied", "approve": "used"}[decision]]


# The log itself ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def valkey(servers: Servers, clean: None) -> AsyncIterator[Redis]:
    """A client of the tests' Valkey."""
    client = kit_redis.connect(servers.redis_dsn)
    yield client
    await client.aclose()


def state() -> dict[str, Any]:
    return {"run": {"status": "running"}, "messages": [], "steps": [], "approvals": []}


async def flushed(writer: StreamWriter) -> None:
    writer.close()
    await writer.run()


async def test_a_stream_that_grew_long_opens_anew_and_loses_nothing(valkey: Redis) -> None:
    writer = StreamWriter(valkey, window=0)
    stream = RunStream(writer, uuid4(), 1, state())
    writing = asyncio.create_task(writer.run())
    stream.emit({"type": "message.started", "message_id": "m", "at": None})
    total = 9_000
    for number in range(total):
        stream.delta("message.delta", f"{number} ")
        stream.emit({"type": "tool.progress", "call_id": "c", "text": ""})
        if number % 500 == 0:
            await asyncio.sleep(0)
    await flushed(writer)
    await writing
    frames = await read_log(valkey, stream.run_id, NOTHING)
    assert frames
    assert frames[0].opens
    assert frames[0].id.generation == stream.generation > 1 << 16
    assert len(frames) < total
    assert text_of(frames) == "".join(f"{number} " for number in range(total))


def text_of(frames: list[Frame]) -> str:
    """What a reader of these frames has of the answer."""
    import orjson

    text = ""
    for frame in frames:
        event = orjson.loads(frame.data.split(b"data: ", 1)[1])
        if event["type"] == "stream.snapshot":
            text = (event["partial"] or {"content": ""})["content"]
        elif event["type"] == "message.delta":
            text += event["text"]
    return text


async def test_a_log_that_was_lost_is_written_anew_with_all_there_was(valkey: Redis) -> None:
    writer = StreamWriter(valkey, window=0)
    stream = RunStream(writer, uuid4(), 1, state())
    writing = asyncio.create_task(writer.run())
    stream.emit({"type": "message.started", "message_id": "m", "at": None})
    stream.delta("message.delta", "before ")

    async def there(text: str) -> None:
        async with asyncio.timeout(5):
            while (frames := await read_log(valkey, stream.run_id, NOTHING)) is None or text_of(frames) != text:
                await asyncio.sleep(0.01)

    await there("before ")
    await valkey.flushdb()
    stream.delta("message.delta", "after")
    await there("before after")
    await flushed(writer)
    await writing


async def test_a_run_is_written_at_most_once_in_a_window_but_its_first_words_and_its_end_at_once(valkey: Redis) -> None:
    writer = StreamWriter(valkey, window=30.0)
    quiet, talking = RunStream(writer, uuid4(), 1, state()), RunStream(writer, uuid4(), 1, state())
    writing = asyncio.create_task(writer.run())

    async def types(stream: RunStream) -> list[str]:
        import orjson

        return [orjson.loads(frame.data.split(b"data: ", 1)[1])["type"] for frame in await read_log(valkey, stream.run_id, NOTHING) or []]

    async def there(stream: RunStream, expected: list[str]) -> None:
        async with asyncio.timeout(5):
            while await types(stream) != expected:
                await asyncio.sleep(0.01)

    talking.emit({"type": "message.started", "message_id": "m", "at": None})
    talking.delta("tool.arguments_delta", "{", index=0, id="c", name="n")
    talking.delta("message.delta", "first")
    opening = ["stream.snapshot", "message.started", "tool.arguments_delta", "message.delta"]
    await there(talking, opening)
    for word in ("more", " and", " more"):
        talking.delta("message.delta", word)
        await asyncio.sleep(0.02)
    quiet.emit({"type": "usage.updated"})
    assert await types(talking) == opening
    assert await types(quiet) == []
    talking.emit({"type": "run.finished", "status": "completed", "problem": None}, ends=True)
    await there(talking, [*opening, "message.delta", "run.finished"])
    assert await types(quiet) == []
    await flushed(writer)
    await writing
    assert await types(quiet) == ["stream.snapshot", "usage.updated"]


@pytest.mark.parametrize(("text", "id"), [("65536-7", EventId(65536, 7)), ("", NOTHING), (None, NOTHING), ("7", NOTHING), ("-7-1", NOTHING), ("1-2-3", NOTHING)])
def test_an_event_id_is_read_or_is_nothing(text: str | None, id: EventId) -> None:
    assert EventId.parse(text) == id


async def test_a_run_that_ended_long_ago_is_told_from_the_database(ada: Product, sql: Sql, servers: Servers, database: Database) -> None:
    thread = await ada.thread()
    run = await ada.say(thread, script(("write_file", {"path": "a", "content": "b"}), "say ok"))
    before = await watched(ada, run["run_id"])
    async with Redis.from_url(servers.redis_dsn) as client:
        await client.delete(f"vibe:run:{run['run_id']}")
    after = await watched(ada, run["run_id"])
    assert after.types == ["stream.snapshot", "run.finished"]
    assert after.ends == before.ends


