"""Branches: a message said in another way begins one more path through a thread, and every path stays whole."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from backend.agent.runs import repository
from backend.agent.runs import service as runs
from backend.agent.schemas import NewRun, NewThread, UserMessage
from backend.agent.thread import service as threads
from backend.agent.thread.manager import ThreadManager
from backend.kit import tasks
from backend.kit.db import Database
from tests.agent.conftest import Apart, Sql
from tests.agent.watching import event_of
from tests.client import Product, script

TALKATIVE: dict[str, Any] = {"tools": []}
SLOW = script("pace 20", "say 600 words")


async def talk(product: Product, thread: str, *texts: str) -> list[dict[str, Any]]:
    for text in texts:
        assert (await product.say(thread, script(f"say answer to {text}") + f"\n# {text}"))["status"] == "completed"
    return await product.messages(thread)


def told(messages: list[dict[str, Any]]) -> list[str]:
    return [m["content"].rpartition("# ")[2] for m in messages]


async def edit(product: Product, thread: str, message: dict[str, Any], text: str, **more: Any) -> dict[str, Any]:
    return await product.say(thread, script(f"say answer to {text}") + f"\n# {text}", edits=message["message_id"], **more)


# One thread ---------------------------------------------------------------------------------------------------------------


async def test_an_edited_message_begins_a_branch_and_the_old_one_is_kept(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    before = await talk(ada, thread, "one", "two", "three")
    await edit(ada, thread, before[2], "two again")
    after = await ada.messages(thread)
    assert told(after) == ["one", "answer to one", "two again", "answer to two again"]
    assert [m["seq"] for m in after] == [1, 2, 7, 8]
    assert [m["parent_id"] for m in after] == [None, *(m["message_id"] for m in after[:-1])]
    page = await ada.ask("GET", f"/api/threads/{thread}/messages?branch=0")
    assert told(page["items"]) == told(before)
    assert told((await talk(ada, thread, "and on"))[-3:]) == ["answer to two again", "and on", "answer to and on"]


async def test_versions_are_counted_in_order_and_chosen_by_any_message_of_theirs(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    first = (await talk(ada, thread, "one", "two"))[0]
    await edit(ada, thread, first, "one, second")
    second = (await ada.messages(thread))[0]
    await edit(ada, thread, second, "one, third")
    third = (await ada.messages(thread))[0]
    assert third["siblings"] == [first["message_id"], second["message_id"], third["message_id"]] and third["position"] == 2
    chosen = await ada.ask("PUT", f"/api/threads/{thread}/branch", {"message_id": second["message_id"]})
    assert chosen["active_branch"] == second["branch"]
    assert (await ada.messages(thread))[0] == second | {"siblings": third["siblings"], "position": 1}
    await ada.ask("PUT", f"/api/threads/{thread}/branch", {"message_id": first["message_id"]})
    assert told(await ada.messages(thread)) == ["one", "answer to one", "two", "answer to two"]
    assert [m["siblings"] for m in await ada.messages(thread)][1:] == [[], [], []]


async def test_an_edit_while_another_message_is_answered_waits_and_stands_on_its_own_branch(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    before = await talk(ada, thread, "one")
    running = await ada.send(thread, script("say two", "wait 0.3", "say ."))
    await event_of(ada, running["run_id"], "message.delta")
    edited = await edit(ada, thread, before[0], "one again")
    assert edited["status"] == "completed"
    assert told(await ada.messages(thread)) == ["one again", "answer to one again"]
    page = await ada.ask("GET", f"/api/threads/{thread}/messages?branch=0")
    assert [m["role"] for m in page["items"]] == ["user", "assistant", "user", "assistant"]


async def test_an_edit_rolls_a_running_turn_back_and_leaves_the_rest(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    before = await talk(ada, thread, "one")
    running = await ada.send(thread, SLOW)
    await event_of(ada, running["run_id"], "message.delta")
    await edit(ada, thread, before[0], "one again", if_busy="rollback")
    assert told(await ada.messages(thread)) == ["one again", "answer to one again"]
    await ada.ask("PUT", f"/api/threads/{thread}/branch", {"message_id": before[0]["message_id"]})
    assert told(await ada.messages(thread)) == ["one", "answer to one"]


async def test_the_same_edit_sent_ten_times_is_one_branch(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    first = (await talk(ada, thread, "one"))[0]
    message = str(uuid4())
    sent = await asyncio.gather(*(ada.send(thread, "again", message_id=message, edits=first["message_id"]) for _ in range(10)))
    assert len({run["run_id"] for run in sent}) == 1
    await ada.finish(sent[0]["run_id"])
    assert (await ada.messages(thread))[0]["siblings"] == [first["message_id"], message]


async def test_only_what_a_person_said_in_this_thread_can_be_edited(ada: Product) -> None:
    agent = await ada.agent(**TALKATIVE)
    thread, other = await ada.thread(agent), await ada.thread(agent)
    said, answered = await talk(ada, thread, "one")
    await ada.send(thread, "x", edits=answered["message_id"], expect=409)
    await ada.send(other, "x", edits=said["message_id"], expect=404)
    await ada.send(thread, "x", edits=str(uuid4()), expect=404)
    await ada.ask("PUT", f"/api/threads/{other}/branch", {"message_id": said["message_id"]}, expect=404)
    await ada.ask("GET", f"/api/threads/{thread}/messages?branch=1", expect=404)
    assert await ada.messages(thread) == [said, answered] and await ada.messages(other) == []


async def test_an_answer_that_other_versions_go_on_from_cannot_be_taken_back(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    one = await ada.say(thread, "one")
    two = await ada.send(thread, SLOW)
    await event_of(ada, two["run_id"], "message.delta")
    second = (await ada.messages(thread))[2]
    await ada.say(thread, "two again", edits=second["message_id"], if_busy="rollback")
    await ada.ask("PUT", f"/api/threads/{thread}/branch", {"message_id": (await ada.messages(thread))[0]["message_id"]})
    await ada.ask("POST", f"/api/runs/{one['run_id']}/retry", expect=409)


async def test_the_newest_question_of_a_branch_is_answered_once_more_there(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    first = (await talk(ada, thread, "one", "two"))[0]
    edited = await edit(ada, thread, first, "one again")
    again = await ada.finish((await ada.ask("POST", f"/api/runs/{edited['run_id']}/retry"))["run_id"])
    assert again["status"] == "completed"
    messages = await ada.messages(thread)
    assert told(messages) == ["one again", "answer to one again"] and messages[1]["run_id"] == again["run_id"]


async def test_a_fork_begins_as_the_thread_stands_at_a_message(ada: Product) -> None:
    thread = await ada.thread(**TALKATIVE)
    before = await talk(ada, thread, "one", "two")
    await edit(ada, thread, before[2], "two again")
    await ada.ask("PATCH", f"/api/threads/{thread}", {"tags": ["a", "b"], "title": "Mine"})
    path = await ada.messages(thread)
    headers = {"Idempotency-Key": "fork"}
    made = [(await ada.http.post(f"/api/threads/{thread}/fork", json={"message_id": path[2]["message_id"]}, headers=headers)).json() for _ in range(2)]
    assert made[0]["thread_id"] == made[1]["thread_id"] != thread
    assert (made[0]["title"], made[0]["tags"], made[0]["usage"]) == ("Mine", ["a", "b"], None)
    copied = await ada.messages(made[0]["thread_id"])
    assert told(copied) == told(path[:3]) and [m["seq"] for m in copied] == [1, 2, 3]
    assert {m["message_id"] for m in copied}.isdisjoint(m["message_id"] for m in path) and {m["run_id"] for m in copied} == {None}
    assert [m["receipt"] for m in copied] == [m["receipt"] for m in path[:3]]
    assert told(await talk(ada, made[0]["thread_id"], "on"))[2:] == ["two again", "on", "answer to on"]
    assert await ada.messages(thread) == path


# Many branches ------------------------------------------------------------------------------------------------------------


@dataclass
class Tree:
    """What a thread should hold, kept beside it: each branch's path, and what stood before each message of a person."""

    database: Database
    account_id: UUID
    thread_id: UUID
    paths: dict[int, list[str]] = field(default_factory=lambda: {0: []})
    before: dict[str, list[str]] = field(default_factory=dict)
    ids: dict[str, UUID] = field(default_factory=dict)
    edits: dict[str, str] = field(default_factory=dict)

    async def say(self, text: str, edits: str | None = None) -> None:
        self.ids[text] = uuid4()
        if edits is not None:
            self.edits[text] = edits
        new = NewRun(message=UserMessage(message_id=self.ids[text], content=text), edits=None if edits is None else self.ids[edits])
        async with self.database.transaction(self.account_id) as session:
            await runs.start_within(session, self.thread_id, new)

    async def answer_all(self, sql: Sql) -> None:
        """Be the worker: each run sees its branch's path, and its answer goes there."""
        for row in await sql("SELECT run_id FROM runs WHERE status = 'queued' ORDER BY created_at, run_id"):
            claimed = await repository.claim(self.database, row["run_id"], "test", timedelta(minutes=1), 1000)
            assert claimed is not None
            manager = ThreadManager(self.thread_id, self.database, self.account_id, row["run_id"], claimed["epoch"])
            run, history = await manager.load(lambda _: 0, claimed)
            text, branch = history[-1]["content"], run["branch"]
            origin = self.edits.get(text)
            assert (branch in self.paths) == (origin is None)
            self.before[text] = self.paths[branch] if origin is None else self.before[origin]
            path = [*self.before[text], text]
            assert [m["content"] for m in history] == path
            assert run["thread_tokens"] == sum(m["tokens"] for m in history)
            self.paths[branch] = [*path, f"answer to {text}"]
            message = {
                "message_id": uuid4(), "parent_id": history[-1]["message_id"], "content": f"answer to {text}", "reasoning": "", "tool_calls": [],
                "status": "ok", "receipt": {}, "tokens": len(text),
            }  # fmt: skip
            await manager.save_answer(message, tokens_used=(1, 1, 0), cost_micro_usd=0, end="completed", problem=None, steps=[])

    async def path(self, branch: int) -> list[str]:
        """A branch as the API shows it, page by page."""
        found: list[str] = []
        before = None
        while True:
            async with self.database.transaction(self.account_id) as session:
                page = await threads.messages(session, self.thread_id, before, 61, branch)
            found = [m.content for m in page.items] + found
            if (before := page.next_before_seq) is None:
                return found


@pytest.fixture
async def tree(apart: Apart, apart_database: Database, grace: Product) -> AsyncIterator[Tree]:
    agent = await grace.agent(**TALKATIVE)
    async with apart_database.transaction(grace.person.account_id) as session:
        made = await threads.create(session, NewThread(agent_id=UUID(agent["agent_id"])))
    tasks.connect(apart.servers.redis_dsn)
    yield Tree(apart_database, grace.person.account_id, made.thread_id)
    tasks.disconnect()


async def test_a_thousand_branches_made_many_at_once_all_keep_their_history(tree: Tree, apart_sql: Sql) -> None:
    chance = random.Random(84)
    await tree.say("first")
    await tree.answer_all(apart_sql)
    n = 0
    while len(tree.paths) <= 1000:
        placed = list(tree.before)
        new = [(f"m{n + i}", chance.choice(placed[-30:] if i % 2 else placed) if i else None) for i in range(13)]
        n += len(new)
        async with tree.database.transaction(tree.account_id) as session:
            longest = max((path for path in tree.paths.values() if len(path) < 40), key=len)[-2]
            await threads.activate(session, tree.thread_id, tree.ids[chance.choice([longest, *placed[-5:]])])
        await asyncio.gather(*(tree.say(text, edits) for text, edits in new))
        await tree.answer_all(apart_sql)
    assert max(len(path) for path in tree.paths.values()) >= 15  # some are deep, and most are not
    for branch, path in tree.paths.items():
        assert await tree.path(branch) == path
    rows = await apart_sql("SELECT seq FROM messages ORDER BY seq")
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
