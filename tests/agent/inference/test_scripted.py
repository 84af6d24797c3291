import asyncio
import json
import time
from typing import Any

import pytest

from backend.agent.inference.base import (
    ChatMessage,
    Completed,
    ModelEvent,
    ModelRequest,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
    Usage,
)
from backend.agent.inference.errors import (
    ContextOverflow,
    KeyRejected,
    ModelError,
    ModelNotFound,
    RateLimited,
    UpstreamFailed,
    UpstreamTimeout,
)
from backend.agent.inference.providers.http import Timeouts
from backend.agent.inference.providers.scripted import Scripted

NAMES = ("shell", "read_file", "write_file", "edit_file", "list_files", "search_files", "delete_file")
TOOLS = tuple(ToolSpec(name, "", {"type": "object"}) for name in NAMES)


def said(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)


async def all_of(
    *messages: ChatMessage, model: Scripted | None = None, tools: Any = TOOLS, **options: Any
) -> list[ModelEvent]:
    request = ModelRequest("demo", messages, tools, **options)
    return [event async for event in (model or Scripted()).stream(request)]


async def answer(*messages: ChatMessage, **options: Any) -> Completed:
    last = (await all_of(*messages, **options))[-1]
    assert isinstance(last, Completed)
    return last


async def conversation(text: str, *results: str, **options: Any) -> list[Completed]:
    """Talk until an answer without calls; each call gets the next result, in the form that the agent gives results."""
    messages = [ChatMessage(role="system", content="Be good."), said(text)]
    answers: list[Completed] = []
    left = list(results)
    while True:
        answers.append(await answer(*messages, **options))
        calls = answers[-1].tool_calls
        if not calls:
            return answers
        messages.append(ChatMessage(role="assistant", content=answers[-1].content, tool_calls=calls))
        for call in calls:
            result = left.pop(0)
            status, _, body = result.rpartition("|")
            body = f'<tool_output tool="{call.name}" secret="x">\n{body}\n</tool_output secret="x">'
            messages.append(
                ChatMessage(
                    role="tool", content=f"[{status}] {body}" if status else body, tool_call_id=call.id
                )
            )


def calls(answers: list[Completed]) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, json.loads(call.arguments)) for one in answers for call in one.tool_calls]


# ---- plain English ----


async def test_it_says_what_it_is_and_offers_only_what_it_can_do() -> None:
    help = (await answer(said("Hello, who are you?"))).content
    assert "no AI" in help
    assert "run `ls -la`" in help
    few = (await answer(said("Hello?"), tools=TOOLS[1:2])).content
    assert "read notes.txt" in few
    assert "ls -la" not in few
    assert "switch on" in (await answer(said("Hello?"), tools=())).content


async def test_it_runs_a_command_and_quotes_what_it_found() -> None:
    answers = await conversation("run `ls -la`", "exit code 0\n--- stdout\ntotal 4\na.txt")
    assert calls(answers) == [("shell", {"command": "ls -la"})]
    assert answers[0].content == "I will run `ls -la`."
    assert answers[0].stop_reason == "tool_calls"
    assert answers[1].content == "**Ran `ls -la`** (exit code 0):\n\n```\ntotal 4\na.txt\n```"


async def test_what_a_command_printed_on_both_streams_is_told_apart() -> None:
    answers = await conversation("run `ls`", "exit code 0\n--- stdout\na.txt\n--- stderr\noops")
    assert answers[1].content == "**Ran `ls`** (exit code 0):\n\n```\n--- stdout\na.txt\n--- stderr\noops\n```"


async def test_it_does_several_things_in_their_order() -> None:
    text = "Write `hello` to notes.txt, then read it, run `cat notes.txt` and list the files."
    answers = await conversation(text, "Wrote 5 bytes.", "hello", "exit code: 0\nhello", "notes.txt")
    assert calls(answers) == [
        ("write_file", {"path": "notes.txt", "content": "hello"}),
        ("read_file", {"path": "notes.txt"}),
        ("shell", {"command": "cat notes.txt"}),
        ("list_files", {}),
    ]
    assert "**Listed the files**" in answers[-1].content


async def test_a_failing_command_is_told_and_the_rest_still_done() -> None:
    answers = await conversation("run `false` and then run `date`", "exit code 1", "exit code 0\nSunday")
    assert len(calls(answers)) == 2
    assert "(exit code 1)" in answers[-1].content


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("denied|The person said no.", "**Not done.** I wanted to run `rm -rf x`, and that was not allowed"),
        ("error|No such file.", "**Failed.** I wanted to run `rm -rf x`, and the tool answered"),
        ("timeout|Ended after 5 s.", "took too long"),
        ("cancelled|Stopped.", "was stopped"),
        ("unknown|outcome unknown", "has no known outcome"),
    ],
)
async def test_it_says_truthfully_what_was_not_done(result: str, words: str) -> None:
    answers = await conversation("run `rm -rf x` and then read notes.txt", result)
    assert len(answers) == 2
    assert words in answers[-1].content
    assert "did not read `notes.txt`" in answers[-1].content
    assert "**Ran" not in answers[-1].content


async def test_a_tool_that_is_off_is_not_called() -> None:
    answers = await conversation("run `ls` and read notes.txt", "hello", tools=TOOLS[1:])
    assert calls(answers) == [("read_file", {"path": "notes.txt"})]
    assert "the tool `shell` is not switched on" in answers[-1].content


async def test_a_long_result_is_shortened_and_cannot_close_its_own_fence() -> None:
    answers = await conversation("run `ls`", "```\n" + "\n".join("x" * 500 for _ in range(40)))
    content = answers[-1].content
    assert "… and 26 more lines." in content
    assert content.count("````\n") >= 1
    assert max(map(len, content.split("\n"))) < 250


async def test_only_the_newest_message_counts() -> None:
    old = await conversation("run `ls`", "exit code 0")
    messages = [
        said("run `ls`"),
        ChatMessage(role="assistant", content=old[-1].content),
        said("read notes.txt"),
    ]
    assert [call.name for call in (await answer(*messages)).tool_calls] == ["read_file"]


# ---- the script ----


async def test_a_script_is_played_turn_by_turn() -> None:
    script = """#script
# a comment
think "Let me see."
say "First."
call shell {"command": "a"} &
call read_file {"path": "b"}

results
call shell {"command": "c"}
say All done.
usage 1000 50 200
"""
    answers = await conversation(script, "one", "two", "three")
    assert [len(one.tool_calls) for one in answers] == [2, 1, 0]
    assert (answers[0].reasoning, answers[0].content) == ("Let me see.", "First.")
    assert answers[1].content == "```\none\n```\n\n```\ntwo\n```"
    assert (answers[2].content, answers[2].usage) == ("All done.", Usage(1000, 50, 200))
    assert answers[0].usage.estimated
    assert len({call.id for one in answers for call in one.tool_calls}) == 3


async def test_a_call_that_is_made_again_gives_the_same_answer() -> None:
    message = said('#script\nsay 50 words\ncall shell {"command": "x"}')
    assert await all_of(message) == await all_of(message)


async def test_messages_that_were_left_out_do_not_move_the_script() -> None:
    script = "#script\n" + "".join(f'call shell {{"command": "{n}"}}\n' for n in range(3)) + "say end"
    first = await answer(said(script))
    second_messages = [
        said(script),
        ChatMessage(role="assistant", tool_calls=first.tool_calls),
        ChatMessage(role="tool", content="ok", tool_call_id=first.tool_calls[0].id),
    ]
    second = await answer(*second_messages)
    shortened = [
        said(script),
        ChatMessage(role="assistant", tool_calls=second.tool_calls),
        ChatMessage(role="tool", content="ok", tool_call_id=second.tool_calls[0].id),
    ]
    assert json.loads((await answer(*shortened)).tool_calls[0].arguments) == {"command": "2"}


async def test_words_come_in_small_pieces_and_are_as_many_as_asked() -> None:
    events = await all_of(said("#script\nsay 100 words"))
    texts = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(texts) > 10
    assert len("".join(texts).split()) == 100


async def test_the_pace_is_kept() -> None:
    began = time.monotonic()
    events = await all_of(said("#script\npace 100\nsay 20 words"))
    assert time.monotonic() - began >= 0.2
    assert len([event for event in events if isinstance(event, TextDelta)]) > 3


@pytest.mark.parametrize(
    ("line", "kind", "retryable", "wait"),
    [
        ("fail 429 retry-after=1", RateLimited, True, 1.0),
        ("fail quota", RateLimited, False, None),
        ("fail 401", KeyRejected, False, None),
        ("fail 500", UpstreamFailed, True, None),
        ("fail timeout", UpstreamTimeout, True, None),
        ("overflow", ContextOverflow, False, None),
    ],
)
async def test_a_script_can_fail(
    line: str, kind: type[ModelError], retryable: bool, wait: float | None
) -> None:
    for _ in range(2):
        with pytest.raises(ModelError) as failure:
            await all_of(said(f"#script\nsay Some words first\n{line}"))
        assert (type(failure.value), failure.value.retryable, failure.value.retry_after) == (
            kind,
            retryable,
            wait,
        )


async def test_a_script_can_fail_a_number_of_times() -> None:
    model = Scripted()
    message = said("#script\nfail 500 times=2\nsay Well.")
    for request_id in ("run:1", "run:2"):
        for _ in range(2):
            with pytest.raises(UpstreamFailed):
                await all_of(message, model=model, request_id=request_id)
        assert (await answer(message, model=model, request_id=request_id)).content == "Well."


async def test_a_script_can_hang_until_the_deadline_of_silence() -> None:
    with pytest.raises(UpstreamTimeout):
        await all_of(said("#script\nsay Hi\nhang"), model=Scripted(timeouts=Timeouts(1, 5, 0.05)))


async def test_a_hanging_script_can_be_cancelled() -> None:
    task = asyncio.create_task(all_of(said("#script\nhang")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_script_can_answer_nothing_end_early_and_call_badly() -> None:
    assert (await answer(said("#script\nempty"))).content == ""
    assert (await answer(said("#script\nfinish length\nsay cut"))).stop_reason == "length"
    bad = (await answer(said("#script\nmalformed-call"))).tool_calls[0]
    assert bad.name == "shell"
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(bad.arguments)
    assert (await answer(said("#script\nunknown-tool"))).tool_calls[0].name == "no_such_tool"


async def test_a_script_calls_no_tool_that_is_off() -> None:
    done = await answer(said('#script\ncall shell {"command": "ls"}'), tools=())
    assert done.tool_calls == ()
    assert "not switched on" in done.content


@pytest.mark.parametrize(
    "line",
    [
        "dance",
        "call shell {",
        "wait long",
        "fail 200",
        "fail 500 often=1",
        'say "x',
        "usage a b",
        "finish maybe",
        "fail",
        "usage",
    ],
)
async def test_a_line_that_is_not_understood_is_named(line: str) -> None:
    content = (await answer(said(f"#script\nsay ok\n{line}"))).content
    assert content.startswith("Line 3 of the script is not understood")


async def test_deltas_and_the_whole_agree() -> None:
    events = await all_of(
        said(
            '#script\nthink 9 words\nsay 30 words\ncall write_file {"path": "a", "content": "'
            + "x" * 999
            + '"}'
        )
    )
    done = events[-1]
    assert isinstance(done, Completed)
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == done.content
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == done.reasoning
    assert (
        "".join(e.arguments for e in events if isinstance(e, ToolCallDelta)) == done.tool_calls[0].arguments
    )


async def test_it_is_listed_as_free_and_knows_only_its_own_name() -> None:
    (info,) = await Scripted().models()
    assert (info.id, info.input_price, info.supports_tools) == ("demo", 0, True)
    with pytest.raises(ModelNotFound, match="scripted/demo"):
        [event async for event in Scripted().stream(ModelRequest("gpt-4o", [said("Hi")]))]
