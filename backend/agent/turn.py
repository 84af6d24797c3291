"""A turn: what a run has said and done so far, in memory beside its rows, and the writing of what comes next.

Every write is one transaction under the run's epoch; only what is written is shown.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from backend.agent.config import AgentConfig
from backend.agent.events import event
from backend.agent.inference.base import ChatMessage, ToolCall, Usage
from backend.agent.inference.tokens import estimate_message
from backend.agent.interrupts import Interrupts
from backend.agent.schemas import ToolStatus
from backend.agent.stream import RunStream
from backend.agent.thread.manager import ThreadManager
from backend.agent.tools.base import ToolResult
from backend.agent.views import approval_view, message_view
from backend.kit import clock

_FENCE_TOKENS = 50  # that the marks around a result take
_STEP_END: dict[ToolStatus, str] = {"ok": "done", "unknown": "unknown"}


class Result(NamedTuple):
    """What a call gave, and how many milliseconds it took."""

    call_id: str
    name: str
    result: ToolResult
    took_ms: int


class Turn:
    """One run of one agent in one thread, as far as it has come."""

    def __init__(
        self,
        run: Mapping[str, Any],
        config: AgentConfig,
        *,
        thread_manager: ThreadManager,
        stream: RunStream,
        interrupts: Interrupts,
        history: list[Mapping[str, Any]],
        steps: Sequence[Mapping[str, Any]] = (),
        approvals: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """`run` is the loaded row; `history` the thread's newest messages; `steps` and `approvals` what was done before the run was lost or let go."""
        self.run_id: UUID = run["run_id"]
        self.thread_id: UUID = run["thread_id"]
        self.agent_id: UUID = run["agent_id"]
        self.config = config
        self.rules: Sequence[Mapping[str, Any]] = run["rules"] or ()
        self.thread_manager = thread_manager
        self.stream = stream
        self.interrupts = interrupts
        self.history = history
        self.journal: dict[str, str] = {step["call_id"]: step["status"] for step in steps if step["call_id"]}
        self.approvals: dict[str, dict[str, Any]] = {approval["call_id"]: dict(approval) for approval in approvals}
        self.steps: int = run["steps"]
        self.spent: int = run["cost_micro_usd"]
        self.dropped_before = run["thread_tokens"] > sum(row["tokens"] for row in history)
        self._totals = {key: run[key] for key in ("input_tokens", "output_tokens", "cached_tokens", "cost_micro_usd", "cost_known")}

    @property
    def next_answer_id(self) -> UUID:
        """Id of the message that the next model call writes: the same in each attempt, also of another worker."""
        return uuid5(self.run_id, f"answer:{self.steps + 1}")

    def emit(self, type: str, **members: Any) -> None:
        """Show an event."""
        self.stream.emit(event(type, **members))

    def mine(self) -> list[Mapping[str, Any]]:
        """Messages that this run wrote."""
        return [row for row in self.history if row["run_id"] == self.run_id]

    async def save_answer(
        self,
        message_id: UUID,
        content: str,
        reasoning: str,
        *,
        calls: Sequence[Mapping[str, str]],
        call_steps: Sequence[dict[str, Any]],
        approvals: Sequence[dict[str, Any]],
        usage: Usage,
        receipt: dict[str, Any],
        started_at: datetime,
        detail: Mapping[str, Any],
        end: str | None = None,
        status: str = "ok",
    ) -> None:
        """Write an answer, the journal's new lines, the approvals its calls need and, with `end`, the run's end.

        `detail` says why this model was asked and what it was sent.
        """
        cost: int | None = receipt["cost_micro_usd"]
        number = (self.steps + 1) * 100
        message = self._message(
            message_id=message_id,
            parent_id=self.history[-1]["message_id"],
            role="assistant",
            content=content,
            reasoning=reasoning,
            tool_calls=list(calls),
            status=status,
            receipt=receipt,
            tokens=estimate_message(ChatMessage("assistant", content, tuple(ToolCall(**call) for call in calls))),
        )
        model_step = {
            "step_id": uuid5(message_id, "step"), "number": number, "kind": "model_call", "name": receipt["model"], "status": "done",
            "usage": usage_view(usage), "cost_micro_usd": cost, "started_at": started_at, "finished_at": clock.now(), "detail": detail,
        }  # fmt: skip
        steps = [model_step, *(step | {"number": number + n} for n, step in enumerate(call_steps, 1))]
        used = (usage.input_tokens, usage.output_tokens, usage.cached_tokens)
        await self.thread_manager.save_answer(message, tokens_used=used, cost_micro_usd=cost, end=end, problem=None, steps=steps, approvals=approvals)
        self.steps += 1
        self.spent += cost or 0
        self.history.append(message)
        self.journal |= {call["id"]: "planned" for call in calls}
        self.emit("message.completed", message=message_view(message))
        for approval in approvals:
            self.approvals[approval["call_id"]] = approval
            self.emit("approval.requested", approval=approval_view(approval))
        self._count(used, cost)
        if end:
            self._finished(end, None)

    async def save_results(self, results: Sequence[Result], *, end: str | None = None, problem: dict[str, Any] | None = None) -> None:
        """Write results of calls as messages, in order, and with `end` the run's end."""
        rows: list[dict[str, Any]] = []
        parent = self.history[-1]["message_id"]
        for n, (call_id, name, result, took_ms) in enumerate(results):
            receipt = {"duration_ms": took_ms, "exit_code": result.exit_code, "truncated": result.truncated, "log_path": result.log_path}
            row = self._message(
                message_id=uuid5(self.run_id, call_id),
                parent_id=parent,
                role="tool",
                content=result.content,
                tool_call_id=call_id,
                tool_name=name,
                status=result.status,
                receipt=receipt,
                tokens=estimate_message(ChatMessage("tool", result.content)) + _FENCE_TOKENS,
            )
            rows.append(row | {"n": n, "step": _STEP_END.get(result.status, "failed"), "started_at": clock.now()})
            parent = row["message_id"]
        await self.thread_manager.save_results(rows, end=end, problem=problem)
        for row, (call_id, _, result, _) in zip(rows, results, strict=True):
            self.history.append(row)
            self.emit("tool.returned", call_id=call_id, status=result.status, message=message_view(row))
            for path, size in result.artifacts:
                self.emit("artifact.created", path=path, size=size)
        if end:
            self._finished(end, problem)

    def _message(self, **members: Any) -> dict[str, Any]:
        empty: dict[str, Any] = {"reasoning": "", "tool_calls": [], "tool_call_id": None, "tool_name": None, "status": "ok", "seq": None, "created_at": None}
        return {"thread_id": self.thread_id, "run_id": self.run_id} | empty | members

    def _count(self, used: tuple[int, int, int], cost: int | None) -> None:
        totals = self._totals
        for name, tokens in zip(("input_tokens", "output_tokens", "cached_tokens"), used, strict=True):
            totals[name] += tokens
        totals["cost_micro_usd"] += cost or 0
        totals["cost_known"] = totals["cost_known"] and cost is not None
        self.emit("usage.updated", steps=self.steps, **totals)

    def _finished(self, status: str, problem: dict[str, Any] | None) -> None:
        self.stream.emit(event("run.finished", status=status, problem=problem, title=self.thread_manager.title or None), ends=True)


def usage_view(usage: Usage) -> dict[str, Any]:
    """Usage as it stands in receipts and the journal."""
    names = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "estimated")
    return {name: getattr(usage, name) for name in names}
