"""Tool calls of a turn: planned with their permission, run in order of their effects, refused where a person or a rule says so.

Reads run beside each other. An effect is a committed intent before it happens, and one that was lost in the middle is never run again when
its class is `once`.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid5

from backend.agent.config import Permission
from backend.agent.inference.base import ToolCall
from backend.agent.interrupts import WaitsForPerson
from backend.agent.schemas import Effect
from backend.agent.stream import RunStream
from backend.agent.tools import permissions
from backend.agent.tools.base import Action, ToolError, ToolResult
from backend.agent.tools.manager import ToolManager
from backend.agent.turn import Result, Turn
from backend.agent.views import approval_view
from backend.kit import clock
from backend.kit.db import storable
from backend.kit.ids import uuid7

_APPROVAL_SECONDS = 24 * 3600
_OUTPUT_PER_SECOND = 64_000
_GRACE_SECONDS = 1.0  # that a running tool gets when its worker leaves
_LOST = "outcome unknown: the worker that ran this was lost before it could say how it ended. Look at the state before you do it again."


class Planned(NamedTuple):
    """A call as it will be run: its action and arguments, or what is wrong with it; what its permission is; the hash of the exact act."""

    call: ToolCall
    action: Action | None
    arguments: dict[str, Any]
    error: str
    permission: Permission
    act_hash: str

    @property
    def effect(self) -> Effect:
        """A call that cannot be run has no effect."""
        return self.action.effect if self.action else "read"

    @property
    def must_ask(self) -> bool:
        """Whether a person is asked before it runs."""
        return self.action is not None and self.permission == "ask"

    @property
    def runs_freely(self) -> bool:
        """Whether it can run beside others, with nothing written before it."""
        return self.effect == "read" and not self.must_ask


class LiveCall:
    """A call that is running, as its action sees it. Output beyond 64 kB a second is not shown live; the log has it."""

    def __init__(self, id: str, key: str, stream: RunStream) -> None:
        self.id = id
        self.idempotency_key = key
        self._stream = stream
        self._second, self._shown = 0, 0

    def output(self, text: str) -> None:
        """Show what is printed."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._shown = second, 0
        room = _OUTPUT_PER_SECOND - self._shown
        if room > 0:
            self._shown += len(text)
            self._stream.delta("tool.output", storable(text[:room]), call_id=self.id)

    def progress(self, text: str) -> None:
        """Show how far it is."""
        self._stream.emit({"type": "tool.progress", "call_id": self.id, "text": text})


class Calls:
    """The calls of one turn."""

    def __init__(self, turn: Turn, tool_manager: ToolManager) -> None:
        self._turn = turn
        self._tools = tool_manager
        self.specs = tool_manager.specs()
        self.spec_tokens = tool_manager.spec_tokens

    def plan(self, call: ToolCall) -> Planned:
        """A call with its action, arguments and permission; the same each time it is planned."""
        turn = self._turn
        try:
            action, arguments = self._tools.parse(call.name, call.arguments)
        except ToolError as error:
            return Planned(call, None, {}, str(error), "allow", "")
        default: Permission = "ask" if action.approval else "allow"
        permission = permissions.decide(turn.config, turn.rules, action.name, arguments, default=default)
        if permission == "allow" and call.id in turn.approvals:
            permission = "ask"  # a person was asked when it was first planned; his answer is still owed
        return Planned(call, action, arguments, "", permission, permissions.act_hash(turn.thread_id, action.name, arguments))

    def step(self, planned: Planned) -> dict[str, Any]:
        """A planned call as a line of the journal."""
        return {
            "step_id": uuid5(self._turn.run_id, f"step:{planned.call.id}"), "kind": "tool_call", "name": planned.call.name, "call_id": planned.call.id,
            "effect": planned.effect, "status": "planned", "request_hash": planned.act_hash or None, "idempotency_key": self._key(planned),
        }  # fmt: skip

    def approval(self, planned: Planned) -> dict[str, Any]:
        """The question to a person."""
        turn, now = self._turn, clock.now()
        return {
            "approval_id": uuid7(), "run_id": turn.run_id, "thread_id": turn.thread_id, "agent_id": turn.agent_id, "agent_name": turn.config.name,
            "call_id": planned.call.id, "action": planned.call.name, "arguments": planned.arguments, "act_hash": planned.act_hash,
            "reason": f"{turn.config.name} asks before it uses {planned.call.name}.", "pattern": permissions.always_pattern(planned.arguments),
            "status": "pending", "note": "", "created_at": now, "expires_at": clock.after(now, _APPROVAL_SECONDS), "expires_in": _APPROVAL_SECONDS, "decided_at": None,
        }  # fmt: skip

    def open(self) -> list[Planned]:
        """Calls of the newest answer that have no result yet, in order."""
        answered: set[str] = set()
        for row in reversed(self._turn.mine()):
            if row["role"] == "assistant":
                calls = (ToolCall(c["id"], c["name"], c["arguments"]) for c in row["tool_calls"] or ())
                return [self.plan(call) for call in calls if call.id not in answered]
            answered.add(row["tool_call_id"])
        return []

    async def run(self, calls: list[Planned]) -> None:
        """Reads beside each other, effects one after the other, in the order they were asked for."""
        guard = self._turn.interrupts.guard
        while calls:
            self._turn.interrupts.check()
            reads = next((n for n, planned in enumerate(calls) if not planned.runs_freely), len(calls))
            batch, calls = calls[: reads or 1], calls[reads or 1 :]
            if reads:
                results = await guard(asyncio.gather(*(self._execute(planned) for planned in batch)), grace=_GRACE_SECONDS)
            else:
                results = [await self._effect(batch[0])]
            await self._turn.save_results(results)

    def given_up(self, planned: Planned) -> Result:
        """The result of a call whose run ended first."""
        started = self._turn.journal.get(planned.call.id) == "started"
        text = "outcome unknown: the run ended while this was running." if started else "Not done: the run ended first."
        if printed := self._turn.stream.state["outputs"].get(planned.call.id):
            text += f" It had printed:\n{printed}"
        return self._result(planned, ToolResult(text, status="unknown" if started else "cancelled"))

    async def _effect(self, planned: Planned) -> Result:
        """Intent, act, result: each is committed before the next begins."""
        turn = self._turn
        if turn.journal.get(planned.call.id) == "started" and planned.effect == "once":
            return self._result(planned, ToolResult(_LOST, status="unknown"))
        refusal = await self._refusal(planned)
        if refusal is not None:
            return self._result(planned, refusal)
        await turn.thread_manager.save_intent(planned.call.id, planned.act_hash)
        turn.journal[planned.call.id] = "started"
        if (approval := turn.approvals.get(planned.call.id)) is not None:
            approval["status"] = "used"
            turn.emit("approval.decided", approval=approval_view(approval))
        return await turn.interrupts.guard(self._execute(planned), grace=_GRACE_SECONDS)

    async def _refusal(self, planned: Planned) -> ToolResult | None:
        """Why a call may not run, as its result; None when it may. Waits for a person where one is asked."""
        if planned.action is None:
            return ToolResult(planned.error, status="error")
        if planned.permission == "deny":
            return ToolResult("Denied by the agent's permissions. Do not try again; find another way or say that you cannot.", status="denied")
        if planned.permission == "allow":
            return None
        approval = await self._answered(planned)
        if approval is not None and approval["status"] in ("approved", "used"):
            if approval["act_hash"] == planned.act_hash:
                return None
            await self._turn.thread_manager.void_approval(planned.call.id)
        if approval is None or approval["status"] in ("approved", "used", "void"):
            return ToolResult("Denied: nobody approved this exact act.", status="denied")
        note = f" The person says: {approval['note']}" if approval["note"] else ""
        said = "Nobody answered in time, so it was not done." if approval["status"] == "expired" else "The person denied this."
        return ToolResult(said + note, status="denied")

    async def _answered(self, planned: Planned) -> dict[str, Any] | None:
        """The approval of a call once it has its answer; until then the run is let go (`WaitsForPerson`)."""
        turn = self._turn
        approval = turn.approvals.get(planned.call.id)
        while approval is not None and approval["status"] == "pending":
            if await turn.thread_manager.wait_for_approval():
                turn.stream.state["run"]["status"] = "waiting_approval"
                raise WaitsForPerson
            await turn.interrupts.guard(asyncio.sleep(0.05))
            _, rows = await turn.thread_manager.journal()
            for row in rows:
                if row["status"] != turn.approvals[row["call_id"]]["status"]:
                    turn.emit("approval.decided", approval=approval_view(row))
            turn.approvals = {row["call_id"]: row for row in rows}
            approval = turn.approvals[planned.call.id]
        return approval

    async def _execute(self, planned: Planned) -> Result:
        """Run a call."""
        began = time.perf_counter()
        self._turn.emit("tool.called", call_id=planned.call.id, name=planned.call.name, effect=planned.effect, at=clock.now())
        if planned.action is None or planned.permission == "deny":
            refused = await self._refusal(planned)
            assert refused is not None
            return self._result(planned, refused)
        live = LiveCall(planned.call.id, self._key(planned), self._turn.stream)
        result = await self._tools.execute(planned.action, live, planned.arguments)
        return self._result(planned, result, clock.elapsed_ms(began))

    def _key(self, planned: Planned) -> str:
        return f"{self._turn.run_id}:{planned.call.id}"

    @staticmethod
    def _result(planned: Planned, result: ToolResult, took_ms: int = 0) -> Result:
        return Result(planned.call.id, planned.call.name, result, took_ms)


def results_of(rows: Sequence[Mapping[str, Any]]) -> list[tuple[dict[str, Any], Mapping[str, Any]]]:
    """Calls with their results, in the order of the results."""
    calls = {call["id"]: call for row in rows if row["role"] == "assistant" for call in row["tool_calls"] or ()}
    return [(calls[row["tool_call_id"]], row) for row in rows if row["role"] == "tool" and row["tool_call_id"] in calls]
