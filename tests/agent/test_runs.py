"""Runs as rows: one for each message, in order, stopped, retried, bounded, and always with a true end."""

import asyncio
import time
from typing import Any
from uuid import uuid4

import pytest

from backend.agent.inference.providers.script import words
from backend.kit.db import Database
from tests.agent.conftest import Sql, member
from tests.agent.watching import decide, event_of, pending, status_is, watched
from tests.client import Product, script
from tests.conftest import Servers
from tests.product import Started

SLOW = script("pace 20", "say 600 words")  # half a minute
TALKATIVE: dict[str, Any] = {"tools": []}


def told(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in messages]


# One message, one run ----------------------------------------------------------------------------------------------------


async def test_the_same_message_sent_twenty_times_at_once_is_one_run(ada: Product) -> None:
    thread, message = await ada.thread(**TALKATIVE), str(uuid4())
    runs = await asyncio.gather(*(ada.send(thread, "hello", message_id=message) for _ in range(20)))
    assert len({run["run_id"] for run in runs}) == 1
    await ada.finish(runs[0]["run_id"])
    assert (await ada.send(thread, "hello", message_id=message))["run_id"] == runs[0]["run_id"]
    assert [m["role"] for m in await ada.messages(thread)] == ["user", "assistant"]


async def test_a_message_id_of_another_thread_is_refused_and_changes_nothing(ada: Product) -> None:
    agent, message = await ada.agent(**TALKATIVE), str(uuid4())
    first, second = await ada.thread(agent), await ada.thread(agent)
    await ada.say(first, "hello", message_id=message)
    await ada.send(second, "hello", message_id=message, expect=409)
    assert await ada.messages(second) == []
    await ada.say(second, "hello")
    assert [m["seq"] for m in await ada.messages(second)] == [1, 2]


@pytest.mark.parametrize("text", ["nul \0 here", " ", "\u202e odd \ufeff text 🙂 " * 50])
async def test_any_text_is_answered_or_refused_in_words(ada: Product, text: str) -> None:
    thread = await ada.thread(**TALKATIVE)
    if "\0" in text:
        await ada.send(thread, text, expect=400)
        assert await ada.messages(thread) == []
    else:
        assert (await ada.say(thread, text))["status"] == "completed"
        assert (await ada.messages(thread))[0]["content"] == text


# A busy thread -----------------------------------------------------------------------------------------------------------


async def test_a_busy_thread_rejects_when_asked_to(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    run = await ada.send(thread, SLOW)
    await ada.send(thread, "and this?", if_busy="reject", expect=409)
    await ada.ask("POST", f"/api/runs/{run['run_id']}/stop")
    await ada.finish(run["run_id"])
    assert (await ada.say(thread, "now?", if_busy="reject"))["status"] == "completed"


async def test_queued_messages_show_their_place_and_are_answered_in_order(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    first = await ada.send(thread, script("say one", "wait 0.5", "say ."))
    await event_of(ada, first["run_id"], "message.delta")
    second, third = await ada.send(thread, script("say two")), await ada.send(thread, script("say three"))
    assert (second["place"], third["place"]) == (0, 1)
    assert (await ada.ask("GET", f"/api/runs/{third['run_id']}"))["place"] == 1
    waiting = await ada.messages(thread)
    assert [m["seq"] for m in waiting if m["content"] in (script("say two"), script("say three"))] == [None, None]
    await ada.finish(third["run_id"])
    messages = await ada.messages(thread)
    assert [m["content"] for m in messages if m["role"] == "assistant"] == ["one.", "two", "three"]
    assert [m["role"] for m in messages] == ["user", "assistant"] * 3
    assert [m["seq"] for m in messages] == [1, 2, 3, 4, 5, 6]
    assert [m["parent_id"] for m in messages[1:]] == [m["message_id"] for m in messages[:-1]]


async def test_an_interrupting_message_ends_the_running_answer_and_keeps_what_was_said(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    first = await ada.send(thread, SLOW)
    await event_of(ada, first["run_id"], "message.delta")
    second = await ada.send(thread, script("say done"), if_busy="interrupt")
    assert (await ada.finish(second["run_id"], 5))["status"] == "completed"
    assert (await ada.finish(first["run_id"]))["status"] == "stopped"
    messages = await ada.messages(thread)
    assert [(m["role"], m["status"]) for m in messages] == [("user", "ok"), ("assistant", "partial"), ("user", "ok"), ("assistant", "ok")]
    assert words(600).startswith(messages[1]["content"].strip())


async def test_a_message_that_rolls_back_takes_the_running_turn_out_of_the_thread(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    await ada.say(thread, script("say kept"))
    running = await ada.send(thread, SLOW)
    await event_of(ada, running["run_id"], "message.delta")
    queued = await ada.send(thread, script("say never"))
    last = await ada.send(thread, script("say done"), if_busy="rollback")
    assert (await ada.finish(last["run_id"], 5))["status"] == "completed"
    for run in (running, queued):
        assert (await ada.finish(run["run_id"]))["status"] == "stopped"
    assert [m["content"] for m in await ada.messages(thread)] == [script("say kept"), "kept", script("say done"), "done"]


async def test_impatient_people_never_break_a_run(ada: Product) -> None:
    """Interruptions while the running turn writes: nothing waits for each other, nothing fails."""
    thread = await ada.thread()
    busy = script(*[("list_files", {"path": "/workspace", "depth": n % 4 + 1}) for n in range(30)])
    await ada.say(thread, script(("list_files", {})))
    runs = []
    for policy in ("interrupt", "rollback") * 6:
        runs.append(await ada.send(thread, busy, if_busy=policy))
        await status_is(ada, runs[-1]["run_id"], "running", "stopped", "completed", "failed")
    last = await ada.send(thread, script("say over"), if_busy="interrupt")
    assert (await ada.finish(last["run_id"]))["status"] == "completed"
    ended = [await ada.finish(run["run_id"]) for run in runs]
    assert {run["status"] for run in ended} <= {"stopped", "completed"}
    calls = [call["id"] for m in await ada.messages(thread) for call in m["tool_calls"]]
    results = [m["tool_call_id"] for m in await ada.messages(thread) if m["role"] == "tool"]
    assert sorted(calls) == sorted(results)


async def test_a_queued_message_that_was_stopped_stands_behind_the_turn_that_went_on(ada: Product) -> None:
    thread = await ada.thread()
    first = await ada.send(thread, script(("shell", {"command": "sleep 0.6; echo slept"}), "say first"))
    await event_of(ada, first["run_id"], "tool.called")
    second = await ada.send(thread, script("say second"))
    stopped = await ada.ask("POST", f"/api/runs/{second['run_id']}/stop")
    assert stopped["status"] == "stopped"
    await ada.finish(first["run_id"])
    third = await ada.say(thread, script("say third"))
    assert third["status"] == "completed"
    messages = await ada.messages(thread)
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant", "user", "user", "assistant"]
    assert [m["seq"] for m in messages] == list(range(1, 8))
    assert messages[4]["content"] == script("say second")


# Stopping ----------------------------------------------------------------------------------------------------------------


async def stop(product: Product, run_id: str) -> dict[str, Any]:
    """Stop a run; the ended run, which must have taken less than two seconds."""
    began = time.monotonic()
    await product.ask("POST", f"/api/runs/{run_id}/stop", expect=202)
    run = await product.finish(run_id, 10)
    assert time.monotonic() - began < 2
    return run


async def test_a_stop_while_the_model_speaks_keeps_the_words_so_far(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    run = await ada.send(thread, SLOW)
    await event_of(ada, run["run_id"], "message.delta")
    assert (await stop(ada, run["run_id"]))["status"] == "stopped"
    question, answer = await ada.messages(thread)
    assert answer["status"] == "partial"
    assert answer["content"]
    assert words(600).startswith(answer["content"].strip())
    assert answer["receipt"]["estimated"]
    seen = await watched(ada, run["run_id"])
    assert [m.content for m in seen.messages] == [question["content"], answer["content"]]


async def test_a_stop_while_a_command_runs_ends_the_command(ada: Product) -> None:
    thread = await ada.thread()
    run = await ada.send(thread, script(("shell", {"command": "echo begun; sleep 30; echo late > late.txt"})))
    await event_of(ada, run["run_id"], "tool.output")
    assert (await stop(ada, run["run_id"]))["status"] == "stopped"
    result = (await ada.messages(thread))[-1]
    assert (result["role"], result["status"]) == ("tool", "unknown")
    assert "outcome unknown" in result["content"]
    await ada.say(thread, script(("shell", {"command": "pgrep -x sleep || echo nothing sleeps"}), "results"))
    assert "nothing sleeps" in (await ada.messages(thread))[-1]["content"]


async def test_a_stop_while_a_person_is_asked_voids_the_question(ada: Product) -> None:
    thread = await ada.thread(permissions={"shell": "ask"})
    run = await ada.send(thread, script(("shell", {"command": "echo no"})))
    await status_is(ada, run["run_id"], "waiting_approval")
    (approval,) = await pending(ada, run["run_id"])
    assert (await stop(ada, run["run_id"]))["status"] == "stopped"
    assert (await ada.ask("GET", f"/api/approvals/{approval['approval_id']}"))["status"] == "void"
    await decide(ada, approval, expect=409)
    assert [(m["role"], m["status"]) for m in await ada.messages(thread)][-1] == ("tool", "cancelled")


async def test_a_stop_while_it_is_queued_ends_it_at_once(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    first = await ada.send(thread, SLOW)
    second = await ada.send(thread, "never mind")
    assert (await ada.ask("POST", f"/api/runs/{second['run_id']}/stop"))["status"] == "stopped"
    seen = await watched(ada, second["run_id"])
    assert seen.state["run"]["status"] == "stopped"
    await stop(ada, first["run_id"])


async def test_a_stop_while_it_waits_to_ask_again(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    run = await ada.send(thread, script("fail 503 retry-after=50"))
    await event_of(ada, run["run_id"], "message.restarted", retry_in_ms=50_000)
    assert (await stop(ada, run["run_id"]))["status"] == "stopped"
    assert [m["role"] for m in await ada.messages(thread)] == ["user"]


async def test_stopping_what_has_ended_changes_nothing(ada: Product) -> None:
    run = await ada.say(await ada.thread(**TALKATIVE), "hello")
    assert await ada.ask("POST", f"/api/runs/{run['run_id']}/stop", expect=202) == run


# Again, another name, away -----------------------------------------------------------------------------------------------


async def test_a_retry_answers_once_more_and_leaves_out_what_was_answered_before(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    first = await ada.say(thread, script("say hello"))
    again = await ada.ask("POST", f"/api/runs/{first['run_id']}/retry", expect=202)
    assert again["retry_of"] == first["run_id"]
    assert (await ada.finish(again["run_id"]))["status"] == "completed"
    messages = await ada.messages(thread)
    assert told(messages) == [("user", script("say hello")), ("assistant", "hello")]
    assert messages[1]["run_id"] == again["run_id"]
    assert messages[1]["parent_id"] == messages[0]["message_id"]


async def test_a_running_run_is_not_retried_and_neither_is_one_of_a_busy_thread(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    done = await ada.say(thread, "hello")
    run = await ada.send(thread, SLOW)
    await ada.ask("POST", f"/api/runs/{run['run_id']}/retry", expect=409)
    await ada.ask("POST", f"/api/runs/{done['run_id']}/retry", expect=409)
    await stop(ada, run["run_id"])


async def test_only_the_newest_message_is_answered_once_more(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    old = await ada.say(thread, script("say one"))
    await ada.say(thread, script("say two"))
    await ada.ask("POST", f"/api/runs/{old['run_id']}/retry", expect=409)
    assert [m["content"] for m in await ada.messages(thread)][1::2] == ["one", "two"]


async def test_answers_that_were_left_out_take_no_room_from_the_conversation(ada: Product) -> None:
    """However often an answer is tried again, its question stays, and nothing is said to be missing."""
    thread = await ada.thread(tools=[], limits={"context_tokens": 1000})
    await ada.say(thread, script("say first"))
    run = await ada.say(thread, script("say 300 words"))
    for _ in range(3):
        run = await ada.ask("POST", f"/api/runs/{run['run_id']}/retry")
        built = await event_of(ada, run["run_id"], "context.built")
        assert built["dropped"] == 0
        await ada.finish(run["run_id"])
    assert [m["content"] for m in await ada.messages(thread)][1::2] == ["first", words(300)]


async def test_a_thread_is_named_after_its_first_message_until_a_person_names_it(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    await ada.say(thread, "\n  What is the weather in Paris?  \nAnd tomorrow?")
    assert (await ada.ask("GET", f"/api/threads/{thread}"))["title"] == "What is the weather in Paris?"
    renamed = await ada.ask("PATCH", f"/api/threads/{thread}", {"title": " Weather "})
    assert renamed["title"] == "Weather"
    await ada.say(thread, "Something else")
    assert (await ada.ask("GET", f"/api/threads/{thread}"))["title"] == "Weather"


async def test_a_name_that_is_given_while_it_runs_is_the_one_that_its_end_tells(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    run = await ada.send(thread, script("say one", "wait 0.4", "say two"))
    await event_of(ada, run["run_id"], "message.delta")
    await ada.ask("PATCH", f"/api/threads/{thread}", {"title": "Mine"})
    finished = await event_of(ada, run["run_id"], "run.finished")
    assert finished["title"] in ("Mine", None)


async def test_a_deleted_thread_is_gone_and_its_runs_stop(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    run, queued = await ada.send(thread, SLOW), await ada.send(thread, "later")
    await event_of(ada, run["run_id"], "message.delta")
    await ada.ask("DELETE", f"/api/threads/{thread}", expect=204)
    for path in ("", "/messages", "/runs", "/files"):
        await ada.ask("GET", f"/api/threads/{thread}{path}", expect=404)
    await ada.send(thread, "hello?", expect=404)
    assert thread not in [t["thread_id"] for t in (await ada.ask("GET", "/api/threads"))["items"]]
    assert (await ada.finish(run["run_id"], 3))["status"] == "stopped"
    assert (await ada.finish(queued["run_id"], 3))["status"] == "stopped"


async def test_a_thread_shows_its_live_run(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    assert (await ada.ask("GET", f"/api/threads/{thread}"))["active_run"] is None
    run = await ada.send(thread, SLOW)
    await status_is(ada, run["run_id"], "running")
    assert (await ada.ask("GET", f"/api/threads/{thread}"))["active_run"]["run_id"] == run["run_id"]
    (listed,) = (await ada.ask("GET", "/api/threads"))["items"]
    assert listed["active_run"]["status"] == "running"
    await stop(ada, run["run_id"])


async def test_messages_come_in_pages_that_meet(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    for number in range(4):
        await ada.say(thread, script(f"say {number}"))
    whole = await ada.messages(thread)
    page = await ada.ask("GET", f"/api/threads/{thread}/messages?limit=3")
    found = page["items"]
    while page["next_before_seq"]:
        page = await ada.ask("GET", f"/api/threads/{thread}/messages?limit=3&before_seq={page['next_before_seq']}")
        found = page["items"] + found
    assert found == whole


# Limits ------------------------------------------------------------------------------------------------------------------


async def test_a_run_ends_when_it_made_as_many_model_calls_as_allowed(ada: Product) -> None:
    thread = await ada.thread(limits={"max_steps": 2})
    run = await ada.say(thread, script(*[("list_files", {"depth": n}) for n in range(1, 5)]))
    assert run["status"] == "failed"
    assert run["steps"] == 2
    assert "2 model calls" in run["problem"]["detail"]
    assert [m["role"] for m in await ada.messages(thread)] == ["user", "assistant", "tool", "assistant", "tool"]


async def test_a_run_ends_when_its_time_is_over_and_keeps_what_was_said(ada: Product) -> None:
    thread = await ada.thread(tools=[], limits={"max_seconds": 1})
    run = await ada.say(thread, script("say hello", "hang"))
    assert run["status"] == "timed_out"
    assert "1 s" in run["problem"]["detail"]
    assert [(m["content"], m["status"]) for m in await ada.messages(thread)][1:] == [("hello", "partial")]


async def test_waiting_for_a_person_takes_nothing_of_the_time(ada: Product, sql: Sql) -> None:
    thread = await ada.thread(limits={"max_seconds": 60}, permissions={"shell": "ask"})
    run = await ada.send(thread, script(("shell", {"command": "echo ok"}), "say done"))
    await status_is(ada, run["run_id"], "waiting_approval")
    await sql("UPDATE runs SET started_at = started_at - interval '2 hours', waiting_since = waiting_since - interval '2 hours'")
    await decide(ada, (await pending(ada, run["run_id"]))[0])
    assert (await ada.finish(run["run_id"]))["status"] == "completed"


async def price(product: Product, given: int) -> None:
    await product.ask("PUT", "/api/inference/models/price", {"model": "scripted/demo", "input_price": given, "output_price": given})


async def test_a_cost_limit_refuses_a_model_of_unknown_price_before_it_is_asked(ada: Product) -> None:
    await ada.ask("PUT", "/api/inference/providers/openai", {"api_key": "sk-never-used"})
    thread = await ada.thread(tools=[], model={"provider": "openai", "name": "gpt-4o"}, limits={"max_cost_micro_usd": 1_000_000})
    run = await ada.say(thread, "hello")
    assert run["status"] == "failed"
    assert run["steps"] == 0
    assert "no known price" in run["problem"]["detail"]


async def test_a_call_that_would_pass_the_cost_limit_is_not_made(ada: Product) -> None:
    await price(ada, 1_000_000)  # one micro-USD for each token
    thread = await ada.thread(tools=["file_operations"], limits={"max_cost_micro_usd": 3_500})
    run = await ada.say(thread, script("usage 1500 1500", ("list_files", {}), "say never"))
    assert run["status"] == "failed"
    assert "cost limit of $0.0035" in run["problem"]["detail"]
    assert (run["steps"], run["cost_micro_usd"], run["cost_known"]) == (1, 3000, True)
    assert (await ada.messages(thread))[1]["receipt"]["cost_micro_usd"] == 3000


async def test_a_known_price_is_counted_exactly_and_rounded_up_once(ada: Product) -> None:
    await price(ada, 150_000)
    thread = await ada.thread(tools=[])
    run = await ada.say(thread, script("usage 7 3", "say x"))
    assert run["cost_micro_usd"] == 2  # 10 tokens x 0.15
    usage = (await ada.ask("GET", f"/api/threads/{thread}"))["usage"]
    assert usage == {"input_tokens": 7, "output_tokens": 3, "cost_micro_usd": 2, "cost_known": True}


@pytest.mark.parametrize("rounds", [["a"], ["a", "b"], ["a", "b", "c"]])
async def test_a_run_that_repeats_itself_with_the_same_results_is_ended(ada: Product, rounds: list[str]) -> None:
    thread = await ada.thread(tools=["file_operations"])
    calls = [("read_file", {"path": name}) for name in rounds * 6]
    run = await ada.say(thread, script(*calls, "say never"))
    assert run["status"] == "failed"
    assert "same result 3 times" in run["problem"]["detail"]
    assert run["steps"] == 3 * len(rounds)


async def test_the_same_call_with_another_result_is_no_loop(ada: Product) -> None:
    thread = await ada.thread()
    run = await ada.say(thread, script(*[("shell", {"command": "echo x >> n; wc -l < n"})] * 5, "say counted"))
    assert run["status"] == "completed"


async def test_a_run_that_lost_its_worker_five_times_fails_with_the_reason_and_answers_its_open_calls(ada: Product, sql: Sql) -> None:
    thread = await ada.thread()
    run = await ada.send(thread, script(("shell", {"command": "echo begun; sleep 30"})))
    await event_of(ada, run["run_id"], "tool.output")
    await sql("UPDATE runs SET losses = 4, lease_owner = 'gone', lease_until = clock_timestamp() - interval '1 s', epoch = epoch + 1")
    ended = await ada.finish(run["run_id"])
    assert ended["status"] == "failed"
    assert ended["losses"] == 5
    assert "lost 5 times" in ended["problem"]["detail"]
    assert [(m["role"], m["status"]) for m in await ada.messages(thread)] == [("user", "ok"), ("assistant", "ok"), ("tool", "unknown")]
    assert (await watched(ada, run["run_id"])).state["run"]["problem"].items() <= ended["problem"].items()


async def test_a_run_without_a_model_says_what_to_set(ada: Product) -> None:
    run = await ada.say(await ada.thread(model={}, tools=[]), "hello")
    assert run["status"] == "failed"
    assert run["problem"]["setting"] == "VIBE_DEFAULT_MODEL"


async def test_the_steps_of_a_run_are_its_journal(ada: Product) -> None:
    thread = await ada.thread()
    run = await ada.say(thread, script(("shell", {"command": "exit 3"}), ("write_file", {"path": "a", "content": "b"}), "say done"))
    steps = await ada.ask("GET", f"/api/runs/{run['run_id']}/steps")
    assert [(s["kind"], s["effect"], s["status"]) for s in steps] == [
        ("model_call", None, "done"), ("tool_call", "once", "failed"), ("model_call", None, "done"),
        ("tool_call", "idempotent", "done"), ("model_call", None, "done"),
    ]  # fmt: skip
    assert all(s["started_at"] and s["finished_at"] for s in steps)


# Whose it is -------------------------------------------------------------------------------------------------------------


async def test_another_account_sees_nothing_of_a_run(ada: Product, database: Database, servers: Servers, server: Started) -> None:
    thread = await ada.thread(permissions={"shell": "ask"})
    run = await ada.send(thread, script(("shell", {"command": "echo x"})))
    (approval,) = await pending(ada, run["run_id"])
    eve = await member(database, servers.admin_dsn, "eve@example.org")
    async with eve.at(server.url) as other:
        for path in (f"threads/{thread}", f"threads/{thread}/messages", f"threads/{thread}/runs", f"threads/{thread}/files", f"runs/{run['run_id']}",
                     f"runs/{run['run_id']}/steps", f"runs/{run['run_id']}/events", f"approvals/{approval['approval_id']}"):  # fmt: skip
            await other.ask("GET", f"/api/{path}", expect=404)
        for path in (f"runs/{run['run_id']}/stop", f"runs/{run['run_id']}/retry"):
            await other.ask("POST", f"/api/{path}", expect=404)
        await other.send(thread, "hello", expect=404)
        await decide(other, approval, expect=404)
        assert (await other.ask("GET", "/api/approvals"))["items"] == []
        assert (await other.ask("GET", "/api/threads"))["items"] == []
    assert (await ada.ask("GET", f"/api/runs/{run['run_id']}"))["status"] == "waiting_approval"


async def test_who_may_only_read_starts_and_stops_nothing(ada: Product, database: Database, servers: Servers, server: Started) -> None:
    thread = await ada.thread(**TALKATIVE)
    run = await ada.say(thread, "hello")
    viewer = await member(database, servers.admin_dsn, "vera@example.org", role="viewer", of=ada.person)
    async with viewer.at(server.url) as reading:
        assert (await reading.ask("GET", f"/api/runs/{run['run_id']}"))["status"] == "completed"
        await reading.send(thread, "hello", expect=403)
        for act in ("stop", "retry"):
            await reading.ask("POST", f"/api/runs/{run['run_id']}/{act}", expect=403)
        await reading.ask("DELETE", f"/api/threads/{thread}", expect=403)
