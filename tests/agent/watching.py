"""What a watcher makes of a run's events, and waiting for what must come."""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from backend.agent.events import RunEvent
from backend.agent.schemas import Message
from tests.client import Product

EVENT: TypeAdapter[Any] = TypeAdapter(RunEvent)
Event = dict[str, Any]


@dataclass
class Seen:
    """A run as its events tell it: a snapshot is set, everything else is applied."""

    state: Event = field(default_factory=dict)
    last: str | None = None
    types: list[str] = field(default_factory=list)

    def apply(self, id: str | None, event: Event) -> None:
        """Take one event, which must be one of the union and lose nothing by being read as it."""
        EVENT.validate_python(event)
        self.last = id or self.last
        self.types.append(event["type"])
        state = self.state
        match event["type"]:
            case "stream.snapshot":
                self.state = copy.deepcopy(event)
            case "message.started" | "message.restarted":
                state["partial"] = {"message_id": event["message_id"], "content": "", "reasoning": "", "tool_calls": []}
            case "message.delta":
                state["partial"]["content"] += event["text"]
            case "reasoning.delta":
                state["partial"]["reasoning"] += event["text"]
            case "tool.arguments_delta":
                calls = state["partial"]["tool_calls"]
                if event["index"] == len(calls):
                    calls.append({"index": event["index"], "id": event["id"], "name": event["name"], "arguments": ""})
                calls[event["index"]]["arguments"] += event["text"]
            case "message.completed":
                partial, message = state["partial"], event["message"]
                if partial is not None:
                    assert partial["message_id"] == message["message_id"]
                    assert (partial["content"], partial["reasoning"]) == (message["content"], message["reasoning"])
                    if message["status"] == "ok":
                        assert [{k: v for k, v in call.items() if k != "index"} for call in partial["tool_calls"]] == message["tool_calls"]
                state["partial"] = None
                state["messages"].append(message)
            case "tool.output":
                state["outputs"][event["call_id"]] = state["outputs"].get(event["call_id"], "") + event["text"]
            case "tool.returned":
                state["outputs"].pop(event["call_id"], None)
                state["messages"].append(event["message"])
            case "approval.requested":
                state["approvals"].append(event["approval"])
            case "approval.decided":
                decided = event["approval"]
                state["approvals"] = [decided if a["approval_id"] == decided["approval_id"] else a for a in state["approvals"]]
            case "usage.updated":
                state["run"] |= {name: value for name, value in event.items() if name != "type"}
            case "run.finished":
                state["run"] |= {"status": event["status"], "problem": event["problem"]}
                state["partial"] = None
            case _:
                pass

    @property
    def messages(self) -> list[Message]:
        """The messages seen."""
        return [Message.model_validate(message) for message in self.state["messages"]]

    @property
    def ends(self) -> tuple[Any, ...]:
        """What two watchers of one run must agree on when it has ended."""
        run = self.state["run"]
        names = ("run_id", "status", "problem", "steps", "input_tokens", "output_tokens", "cost_micro_usd", "cost_known")
        approvals = [(a["approval_id"], a["status"], a["note"]) for a in self.state["approvals"]]
        return self.messages, approvals, self.state["partial"], tuple(run[name] for name in names)


async def watched(product: Product, run_id: str, last: str | None = None, seen: Seen | None = None) -> Seen:
    """A run watched to its end, from an id on when one is given."""
    seen = seen or Seen()
    async for id, event in product.events(run_id, last):
        seen.apply(id, event)
    assert seen.types[-1] == "run.finished"
    return seen


async def event_of(product: Product, run_id: str, type: str, **members: Any) -> Event:
    """The first event of a type (and with these members) that a watcher sees."""
    async for _, event in product.events(run_id):
        if event["type"] == type and members.items() <= event.items():
            return event
        if type in ("message.delta", "tool.output") and event["type"] == "stream.snapshot":
            shown = (event["partial"] or {}).get("content") if type == "message.delta" else event["outputs"]
            if shown:
                return event
    raise AssertionError(f"the run ended without {type}")


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 15.0) -> Any:
    """What the condition gives once it is true."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):
            await asyncio.sleep(0.02)
    return found


async def status_is(product: Product, run_id: str, *wanted: str) -> Event:
    """The run once it has one of these statuses."""

    async def look() -> Event | None:
        run: Event = await product.ask("GET", f"/api/runs/{run_id}")
        return run if run["status"] in wanted else None

    found: Event = await until(look)
    return found


async def pending(product: Product, run_id: str, count: int = 1) -> list[Event]:
    """The approvals that a run waits for, once there are so many."""

    async def look() -> list[Event]:
        page = await product.ask("GET", "/api/approvals?status=pending")
        found = [one for one in page["items"] if one["run_id"] == run_id]
        return found if len(found) == count else []

    waiting: list[Event] = await until(look)
    return waiting


async def decide(product: Product, approval: Event, decision: str = "approve", *, expect: int | None = None, **more: Any) -> Event:
    """Answer an approval for the act it shows."""
    body = {"decision": decision, "act_hash": approval["act_hash"]} | more
    answer: Event = await product.ask("POST", f"/api/approvals/{approval['approval_id']}/decision", body, expect=expect)
    return answer
