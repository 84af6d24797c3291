"""The parts of the OpenAI door on their own: words that only grow, events that are waited for, items that come side by side."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.agent.inference.base import Completed, ModelEvent, TextDelta, ToolCallDelta, Usage
from backend.doors.openai.agents import Words
from backend.doors.openai.responses import ResponseStream, frame
from backend.doors.openai.schemas import ResponseRequest
from backend.doors.openai.wire import lively

AGAIN = "\n\n[The answer begins again.]\n\n"
ACTS = st.one_of(
    st.tuples(st.just("delta"), st.sampled_from(["a", "b", "ab", "ba"])),
    st.tuples(st.sampled_from(["restart", "complete", "reset"]), st.just("")),
)


@given(st.lists(ACTS, max_size=30))
def test_whatever_a_run_does_the_client_ends_with_its_text(acts: list[tuple[str, str]]) -> None:
    words, heard = Words(), ""
    whole: list[str] = []
    partial = ""
    for act, text in acts:
        match act:
            case "delta":
                partial += text
                heard += words.delta(text)
            case "restart":
                partial = ""
                heard += words.restart()
            case "complete":
                whole, partial, said = [*whole, partial], "", partial
                heard += words.complete(said)
            case "reset":  # a snapshot of the run as it stands
                heard += words.reset(whole, partial)
    text = "\n\n".join(one for one in (*whole, partial) if one)
    assert words.text == text
    last = heard.rpartition(AGAIN)[2]
    assert last == text or (last.startswith(text) and any(act == "restart" for act, _ in acts))


def test_an_answer_that_begins_again_with_the_same_words_is_not_told_twice() -> None:
    words = Words()
    told = [words.delta("one "), words.delta("two "), words.restart(), words.delta("one "), words.delta("two three"), words.complete("one two three")]
    assert told == ["one ", "two ", "", "", "three", ""]


def test_an_answer_that_begins_again_differently_is_told_whole() -> None:
    words = Words()
    assert [words.delta("one "), words.restart(), words.delta("two")] == ["one ", "", f"{AGAIN}two"]


async def _slow(gate: asyncio.Event, gone: asyncio.Event) -> AsyncGenerator[ModelEvent, None]:
    try:
        yield TextDelta("a")
        await gate.wait()
        yield TextDelta("b")
        raise ValueError("broken")
    finally:
        gone.set()


async def test_silence_is_told_and_an_error_comes_after_what_came_before_it() -> None:
    gate, gone = asyncio.Event(), asyncio.Event()
    events = lively(_slow(gate, gone), 0.01)
    assert await anext(events) == TextDelta("a")
    assert await anext(events) is None
    gate.set()
    while (event := await anext(events)) is None:
        pass
    assert event == TextDelta("b")
    with pytest.raises(ValueError, match="broken"):
        await anext(events)
    assert gone.is_set()


async def test_who_stops_listening_ends_what_he_listened_to() -> None:
    gate, gone = asyncio.Event(), asyncio.Event()
    events = lively(_slow(gate, gone), 10)
    await anext(events)
    await events.aclose()
    async with asyncio.timeout(5):
        await gone.wait()


def test_calls_that_come_side_by_side_each_keep_their_place() -> None:
    given = ResponseRequest(model="m", input="x")
    stream = ResponseStream(frame(given, "resp_1", None))
    deltas = [ToolCallDelta(0, "a", "f", "{"), ToolCallDelta(1, "b", "g", "{}"), ToolCallDelta(0, "a", "f", "}")]
    written = b"".join(stream.opening())
    answer: list[ModelEvent] = [TextDelta("Look."), *deltas, Completed("Look.", "", (), Usage(1, 2), "tool_calls", "m", None)]
    for event in answer:
        written += b"".join(stream.event(event))
    told: list[dict[str, Any]] = [orjson.loads(line[6:]) for line in written.split(b"\n") if line.startswith(b"data: ")]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    done = [event for event in told if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in done] == [0, 1, 2]
    assert [event["item"] for event in done] == told[-1]["response"]["output"]
    assert [item.get("arguments") for item in told[-1]["response"]["output"]] == [None, "{}", "{}"]
