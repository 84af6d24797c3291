"""Tools: a signature is the schema, reads overlap, effects keep their order, and nothing a tool does ends the run."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import pytest

from backend.agent.config import AgentConfig
from backend.agent.inference.providers.http import open_session
from backend.agent.inference.registry import Models
from backend.agent.interrupts import Interrupts, Stopped
from backend.agent.run import AgentRunner
from backend.agent.runs import repository
from backend.agent.stream import RunStream, StreamWriter
from backend.agent.thread.manager import ThreadManager
from backend.agent.tools.base import Call, Tool, ToolError, ToolResult, action
from backend.agent.tools.manager import OUTPUT_LIMIT, ToolManager, bounded
from backend.agent.turn import Turn
from backend.kit import redis as kit_redis
from backend.kit.db import Database
from tests.agent.conftest import Apart
from tests.agent.watching import until
from tests.client import Product, script


@dataclass
class Bench(Tool):
    """What the tests give a model to call."""

    acts: list[str] = field(default_factory=list)
    meeting: asyncio.Barrier = field(default_factory=lambda: asyncio.Barrier(3))
    busy: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    @action(effect="read")
    async def meet(self, call: Call, name: str) -> ToolResult:
        """Return when three are here."""
        async with asyncio.timeout(5):
            await self.meeting.wait()
        return ToolResult(f"{name} met")

    @action(effect="read")
    async def look(self, call: Call, name: str) -> ToolResult:
        """Look."""
        self.acts.append(f"look {name}")
        return ToolResult(name)

    @action(effect="once")
    async def act(self, call: Call, name: str, pause: float = 0.0) -> ToolResult:
        """Do it."""
        self.acts.append(f"begin {name}")
        await asyncio.sleep(pause)
        self.acts.append(f"end {name}")
        return ToolResult(call.idempotency_key)

    @action(effect="once", timeout=0.05)
    async def dawdle(self, call: Call) -> ToolResult:
        """Never return."""
        await asyncio.Event().wait()
        raise AssertionError

    @action(effect="once")
    async def wait(self, call: Call) -> ToolResult:
        """Wait until cancelled."""
        self.busy.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError

    @action(effect="once")
    async def fail(self, call: Call, how: Literal["tool", "bug", "timeout", "nul"]) -> ToolResult:
        """Fail."""
        if how == "tool":
            raise ToolError("the door is locked")
        if how == "timeout":
            raise TimeoutError
        if how == "nul":
            return ToolResult("a\0b")
        raise KeyError("secret internals")

    @action(effect="once", approval=True)
    async def spend(self, call: Call, amount: int) -> ToolResult:
        """Spend."""
        raise AssertionError("nobody approved this")


class Played:
    """A run that is played in this process, with a tool of the test's own."""

    def __init__(self, runner: AgentRunner, interrupts: Interrupts) -> None:
        self.interrupts = interrupts
        self.task = asyncio.create_task(self._run(runner))

    async def _run(self, runner: AgentRunner) -> list[str]:
        return [text async for text in runner.run("")]


Play = Callable[..., Any]


@pytest.fixture
async def play(apart: Apart, apart_database: Database, grace: Product) -> AsyncIterator[Play]:
    """Claims a run of the second place, where no worker is, and plays it."""
    client = kit_redis.connect(apart.servers.redis_dsn)
    writer = StreamWriter(client)
    writing = asyncio.create_task(writer.run())
    async with open_session(frozenset()) as session:
        models = Models(session)

        async def begin(bench: Bench, run: dict[str, Any]) -> Played:
            run_id = UUID(run["run_id"])
            claimed = await repository.claim(apart_database, run_id, "tests", timedelta(minutes=1), 100)
            assert claimed
            threads = ThreadManager(claimed["thread_id"], apart_database, claimed["account_id"], run_id, claimed["epoch"])
            row, history = await threads.load(lambda row: 0)
            stream = RunStream(writer, run_id, claimed["epoch"], {"run": run, "messages": [], "steps": [], "approvals": []})
            interrupts = Interrupts()
            config = AgentConfig.model_validate(row["config"])
            turn = Turn(row, config, thread_manager=threads, stream=stream, interrupts=interrupts, history=history)
            return Played(AgentRunner(row["agent_id"], row["thread_id"], "scripted/demo", [bench], turn=turn, get_model=models.get_model), interrupts)

        yield begin
    writer.close()
    await writing
    await client.aclose()


async def played(play: Play, product: Product, bench: Bench, *lines: Any) -> list[dict[str, Any]]:
    """The results of a script's calls."""
    thread = await product.thread(tools=[])
    run = await product.send(thread, script(*lines, "say done"))
    await (await play(bench, run)).task
    ended = await product.ask("GET", f"/api/runs/{run['run_id']}")
    assert ended["status"] == "completed", ended["problem"]
    return [m for m in await product.messages(thread) if m["role"] == "tool"]


def together(*calls: tuple[str, dict[str, Any]]) -> str:
    """Calls of one answer."""
    written = [f"call {name} {json.dumps(arguments)}" for name, arguments in calls]
    return " &\n".join(written)


async def test_reads_of_one_answer_run_at_the_same_time(play: Play, grace: Product) -> None:
    results = await played(play, grace, Bench(), together(*(("meet", {"name": name}) for name in "abc")))
    assert [m["content"] for m in results] == ["a met", "b met", "c met"]


async def test_effects_run_one_after_the_other_in_the_order_they_were_asked_for(play: Play, grace: Product) -> None:
    bench = Bench()
    calls: list[tuple[str, dict[str, Any]]] = [("act", {"name": "1", "pause": 0.05})]
    calls += [("look", {"name": "x"}), ("look", {"name": "y"}), ("act", {"name": "2"}), ("look", {"name": "z"})]
    results = await played(play, grace, bench, together(*calls))
    assert bench.acts == ["begin 1", "end 1", "look x", "look y", "begin 2", "end 2", "look z"]
    assert [m["tool_name"] for m in results] == ["act", "look", "look", "act", "look"]
    assert results[0]["content"] != results[3]["content"]  # each has a key of its own


async def test_no_failure_of_a_tool_ends_the_run(play: Play, grace: Product) -> None:
    lines = [("fail", {"how": how}) for how in ("tool", "bug", "timeout", "nul")]
    results = await played(play, grace, Bench(), *lines, ("dawdle", {}))
    assert [m["status"] for m in results] == ["error", "error", "error", "ok", "timeout"]
    assert results[0]["content"] == "the door is locked"
    assert "secret internals" not in results[1]["content"]
    assert "failed inside" in results[2]["content"]
    assert results[3]["content"] == "a\ufffdb"
    assert "0.05 s" in results[4]["content"]


async def test_wrong_arguments_are_told_and_can_be_mended(play: Play, grace: Product) -> None:
    bench = Bench()
    wrong: list[dict[str, Any]] = [{}, {"name": "x", "more": 1}, {"name": ["x"]}, {"name": "x", "pause": "long"}, {"name": "x\0"}]
    results = await played(play, grace, bench, *(("act", arguments) for arguments in wrong), ("act", {"name": "right"}))
    assert [m["status"] for m in results] == ["error"] * 5 + ["ok"]
    assert "name: Field required" in results[0]["content"]
    assert "more: Extra inputs" in results[1]["content"]
    assert "U+0000" in results[4]["content"]
    assert bench.acts == ["begin right", "end right"]


async def test_numbers_that_no_journal_can_hold_are_refused_to_the_model(play: Play, grace: Product) -> None:
    results = await played(play, grace, Bench(), 'call spend {"amount": 1e30}')
    assert results[0]["status"] == "error"


async def test_calls_that_are_no_calls_are_told_and_can_be_mended(play: Play, grace: Product) -> None:
    results = await played(play, grace, Bench(), "malformed-call", "unknown-tool", ("look", {"name": "x"}))
    assert [m["status"] for m in results] == ["error", "error", "ok"]
    assert "not valid JSON" in results[0]["content"]
    assert "There is no tool named 'no_such_tool'" in results[1]["content"]
    assert "look" in results[1]["content"]


async def test_a_stop_reaches_the_tool(play: Play, grace: Product) -> None:
    bench, thread = Bench(), await grace.thread(tools=[])
    run = await grace.send(thread, script(together(("wait", {}), ("act", {"name": "never"}))))
    under_way = await play(bench, run)
    await bench.busy.wait()
    under_way.interrupts.set(Stopped())
    await under_way.task
    assert bench.cancelled.is_set()
    assert bench.acts == []
    assert (await grace.finish(run["run_id"]))["status"] == "stopped"
    assert [m["status"] for m in await grace.messages(thread) if m["role"] == "tool"] == ["unknown", "cancelled"]


async def test_a_tool_that_says_so_asks_a_person_first(play: Play, grace: Product) -> None:
    run = await grace.send(await grace.thread(tools=[]), script(("spend", {"amount": 5})))
    under_way = await play(Bench(), run)
    await asyncio.wait({under_way.task})
    (approval,) = (await grace.ask("GET", "/api/approvals?status=pending"))["items"]
    assert approval["arguments"] == {"amount": 5}
    assert type(under_way.task.exception()).__name__ == "WaitsForPerson"


# The pieces -------------------------------------------------------------------------------------------------------------


class Shown(Tool):
    """A tool to read the schema of."""

    @action(effect="read")
    async def search(
        self,
        call: Call,
        text: Annotated[str, "What to look for."],
        where: Annotated[Literal["here", "there"], "Place."] = "here",
        limit: int = 10,
        tags: list[str] | None = None,
    ) -> ToolResult:
        """Search for a text.

        It may take long.
        """
        raise NotImplementedError


def test_a_signature_is_the_schema_and_a_docstring_the_manual() -> None:
    (spec,) = ToolManager([Shown()]).specs()
    assert spec.name == "search"
    assert spec.description == "Search for a text.\n\nIt may take long."
    assert spec.parameters["required"] == ["text"]
    assert spec.parameters["additionalProperties"] is False
    assert spec.parameters["properties"]["text"] == {"type": "string", "description": "What to look for."}
    assert spec.parameters["properties"]["where"]["enum"] == ["here", "there"]
    assert spec.parameters["properties"]["limit"]["default"] == 10
    assert "call" not in spec.parameters["properties"]


def test_the_schemas_stand_in_the_same_order_every_time() -> None:
    names = [spec.name for spec in ToolManager([Bench(), Shown()]).specs()]
    assert names == sorted(names) == [spec.name for spec in ToolManager([Shown(), Bench()]).specs()]


@pytest.mark.parametrize("arguments", ['{"text": "x"}', '{"text": "x", "limit": "3"}', '{"text": "x", "tags": ["a"]}'])
def test_good_arguments_are_read(arguments: str) -> None:
    _, valid = ToolManager([Shown()]).parse("search", arguments)
    assert valid["text"] == "x"
    assert isinstance(valid["limit"], int)


@pytest.mark.parametrize(
    "arguments", ["", "[]", "null", "3", '"x"', "{", '{"text": "x"} trailing', "{'text': 'x'}", '{"text": NaN}', '{"text": "\\ud800"}', "[" * 2000]
)
def test_bad_arguments_are_an_error_for_the_model(arguments: str) -> None:
    with pytest.raises(ToolError):
        ToolManager([Shown()]).parse("search", arguments)


def test_a_long_output_keeps_its_beginning_and_its_end_and_says_where_the_whole_is() -> None:
    text = "begin " + "x" * 100_000 + " end"
    short = bounded(ToolResult(text, "error", exit_code=3, log_path="/workspace/.logs/1"))
    assert short.content.startswith("begin ")
    assert short.content.endswith(" end")
    assert "80,010 characters left out; the whole is in /workspace/.logs/1" in short.content
    assert len(short.content) < OUTPUT_LIMIT + 100
    assert (short.status, short.exit_code, short.truncated, short.log_path) == ("error", 3, True, "/workspace/.logs/1")
    assert bounded(ToolResult("x" * OUTPUT_LIMIT)).truncated is False


# In the sandbox ---------------------------------------------------------------------------------------------------------


async def test_a_long_output_of_a_command_is_a_file_and_reaches_the_model_by_head_and_tail(ada: Product) -> None:
    thread = await ada.thread()
    await ada.say(thread, script(("shell", {"command": "echo first; seq 200000; echo last"}), "say ok"))
    result = (await ada.messages(thread))[2]
    assert result["receipt"]["truncated"]
    assert "first" in result["content"]
    assert "last" in result["content"][-200:]
    assert len(result["content"]) < 25_000
    answer = await ada.http.get(f"/api/threads/{thread}/files/content", params={"path": result["receipt"]["log_path"]})
    assert answer.status_code == 200
    assert answer.content.decode().split()[:2] == ["first", "1"]
    assert len(answer.content) > 1_000_000


async def test_bytes_that_are_no_text_are_shown_as_well_as_they_can_be(ada: Product) -> None:
    thread = await ada.thread()
    run = await ada.say(thread, script(("shell", {"command": "printf 'a\\0b\\377c'"}), "say ok"))
    assert run["status"] == "completed"
    assert "a\ufffdb\ufffdc" in (await ada.messages(thread))[2]["content"]


async def test_a_command_that_runs_too_long_is_ended(ada: Product) -> None:
    thread = await ada.thread()
    run = await ada.say(thread, script(("shell", {"command": "echo begun; sleep 30", "timeout": 1}), "say ok"))
    assert run["status"] == "completed"
    result = (await ada.messages(thread))[2]
    assert result["status"] == "timeout"
    assert "begun" in result["content"]


async def test_without_a_sandbox_nothing_runs_on_the_host(apart: Apart, grace: Product) -> None:
    apart.worker(VIBE_SANDBOX="off")
    mark = Path("/tmp") / f"vibe-{uuid4().hex}"
    thread = await grace.thread()
    run = await grace.say(thread, script(("shell", {"command": f"touch {mark}"}), ("write_file", {"path": str(mark), "content": "x"}), "say ok"))
    assert run["status"] == "completed"
    results = [m for m in await grace.messages(thread) if m["role"] == "tool"]
    assert [m["status"] for m in results] == ["error", "error"]
    assert all(m["content"].startswith("sandbox_unavailable: The sandbox is turned off. Set VIBE_SANDBOX") for m in results)
    assert not mark.exists()

    async def refused() -> bool:
        answer = await grace.http.get(f"/api/threads/{thread}/files")
        return answer.status_code == 503 and "sandbox" in answer.text

    await until(refused)
