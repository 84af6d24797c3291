"""AgentRunner: the loop. Everything it knows is in Postgres; whatever it was doing when its worker died, the next one goes on from the rows.

    load → (open tool calls? run them) → ask the model → save answer and calls → … until an answer without calls, a limit or a stop
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import UUID, uuid5

import orjson

from backend.agent.config import AgentConfig
from backend.agent.context import Context, ContextTooSmall, build_context, tokens_from, window
from backend.agent.events import event
from backend.agent.inference.base import Completed, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta, Usage
from backend.agent.inference.errors import ContextOverflow, ModelError
from backend.agent.inference.pricing import cost_micro_usd
from backend.agent.inference.registry import Model
from backend.agent.inference.tokens import estimate_tokens
from backend.agent.schemas import Effect
from backend.agent.stream import RunStream
from backend.agent.thread.manager import LeaseLost, ThreadManager
from backend.agent.tools import permissions
from backend.agent.tools.base import Action, Tool, ToolError, ToolResult
from backend.agent.tools.manager import ToolManager
from backend.kit import clock
from backend.kit.db import DatabaseUnavailable
from backend.kit.ids import uuid7
from backend.kit.problems import Problem

log = logging.getLogger(__name__)
T = TypeVar("T")

_TRIES = 4  # of one model call, in this one retry layer
_LONGEST_WAIT = 60.0  # seconds that a provider may make us wait before we give up
_REPEATS = 3  # equal calls with equal results before the run is ended as a loop
_APPROVAL_SECONDS = 24 * 3600
_OUTPUT_PER_SECOND = 64_000
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what every vendor takes back
_CANCEL_SECONDS = 1.0  # how long a cancelled call may take to end before it is left behind


class Interrupted(Exception):
    """The run is to end, or to be let go, now"""


class Stopped(Interrupted):
    """Stopped by a person"""


class TimedOut(Interrupted):
    """The run worked as long as its limit allows"""


class HandOver(Interrupted):
    """This worker leaves in order; another one goes on"""


class WaitsForPerson(Interrupted):
    """An approval is waited for; the run is let go until then"""


class LimitReached(Problem):
    """The run reached a limit of its agent"""

    status = 409


class LoopDetected(Problem):
    """The agent repeated itself without getting anywhere"""

    status = 409


class PriceUnknown(Problem):
    """A cost limit needs a known price"""

    status = 409


class EmptyAnswer(Problem):
    """The model answered nothing"""

    status = 502


class ConversationTooLong(Problem):
    """The newest message does not fit into the model's context"""

    status = 413


class ModelCallFailed(Problem):
    """The model call failed"""

    status = 502


class RunFailed(Problem):
    """The run failed inside the platform"""


class Interrupts:
    """What can end the wait for a model or a tool from outside, once: a stop, the deadline, a lost lease, a hand-over."""

    def __init__(self) -> None:
        self._happened: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def set(self, error: Exception) -> None:
        """Interrupt. Only the first counts."""
        if not self._happened.done():
            self._happened.set_result(error)

    def check(self) -> None:
        """Raise if it happened."""
        if self._happened.done():
            raise self._happened.result()

    async def guard(self, work: Awaitable[T], *, grace: float = 0.0) -> T:
        """Wait for `work`, but no longer than until an interruption, which cancels it; a hand-over gives it `grace` seconds."""
        task = asyncio.ensure_future(work)
        try:
            both: set[asyncio.Future[Any]] = {task, self._happened}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and grace and isinstance(self._happened.result(), HandOver):
                await asyncio.wait({task}, timeout=grace)
            if task.done():
                return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
        raise self._happened.result()


class Planned(NamedTuple):
    """A call as it will be run: its action and arguments, or what is wrong with it; and what its permission is."""

    call: ToolCall
    action: Action | None
    arguments: dict[str, Any]
    error: str
    permission: Literal["allow", "ask", "deny"]
    act_hash: str

    @property
    def effect(self) -> Effect:
        """A call that cannot be run has no effect."""
        return self.action.effect if self.action else "read"

    @property
    def runs_freely(self) -> bool:
        """Whether it can run beside others, before anything is written."""
        return self.effect == "read" and self.permission != "ask"


class LiveCall:
    """A call that is running: what its action sees of it. Output beyond 64 kB a second is not shown live; the log has it."""

    def __init__(self, id: str, run_id: UUID, stream: RunStream) -> None:
        self.id = id
        self.idempotency_key = f"{run_id}:{id}"
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
            self._stream.delta("tool.output", text[:room], call_id=self.id)

    def progress(self, text: str) -> None:
        """Show how far it is."""
        self._stream.emit(event("tool.progress", call_id=self.id, text=text))


class AgentRunner:
    """Runs one turn of one agent in one thread."""

    def __init__(
        self,
        agent_id: UUID,
        thread_id: UUID,
        model_name: str,
        tools: Sequence[Tool],
        *,
        run: Mapping[str, Any],
        config: AgentConfig,
        thread_manager: ThreadManager,
        get_model: Callable[[str], Model],
        stream: RunStream,
        interrupts: Interrupts,
        history: list[dict[str, Any]],
        steps: Sequence[Mapping[str, Any]] = (),
        approvals: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """`run` is the loaded row; `history` the thread's newest messages; `steps` and `approvals` what the run had done before it was lost or let go."""
        self.agent_id = agent_id
        self.thread_id = thread_id
        self.model_name = model_name
        self.tool_manager = ToolManager(tools)
        self.thread_manager = thread_manager
        self.run_id: UUID = run["run_id"]
        self._config = config
        self._rules = run["rules"] or ()
        self._get_model = get_model
        self._stream = stream
        self._interrupts = interrupts
        self._history = history
        self._journal = {step["call_id"]: step["status"] for step in steps if step["call_id"]}
        self._approvals = {approval["call_id"]: dict(approval) for approval in approvals}
        self._steps: int = run["steps"]
        self._spent: int = run["cost_micro_usd"]
        self._totals = {key: run[key] for key in ("input_tokens", "output_tokens", "cached_tokens", "cost_micro_usd", "cost_known")}
        self._title: str = run["title"]
        self._specs = self.tool_manager.specs()
        self._first_token_ms: int | None = None
        self._sent = 0  # estimated tokens of the call that is under way
        self._dropped_before = run["thread_tokens"] > sum(row["tokens"] for row in history)
        self._routed = False

    async def run(self, input_message: str) -> AsyncIterator[str]:
        """Answer the message; yields each text of the agent when it is saved. Returns at the run's true end.

        Raises `LeaseLost`, `HandOver` or `WaitsForPerson` when the run goes on elsewhere or later, and `DatabaseUnavailable` when it
        cannot be written.
        """
        try:
            while True:
                self._interrupts.check()
                if open_calls := self._open_calls():
                    await self._run_calls(open_calls)
                    continue
                self._check_limits()
                answer = await self._answer()
                if answer.content:
                    yield answer.content
                if not answer.tool_calls:
                    return
        except (LeaseLost, HandOver, WaitsForPerson, DatabaseUnavailable):
            raise
        except Stopped:
            await self._end("stopped", None)
        except TimedOut as error:
            await self._end("timed_out", LimitReached(f"{error} ({self._config.limits.max_seconds} s).").body())
        except ModelError as error:
            await self._end("failed", _model_problem(error))
        except Problem as problem:
            await self._end("failed", problem.body())
        except Exception:
            log.exception("a run failed inside the platform")
            await self._end("failed", RunFailed("The run's id names it in the log.").body(str(self.run_id)))

    # Asking the model -------------------------------------------------------------------------------------------------

    async def _answer(self) -> Completed:
        """One model call, saved with the calls it asks for."""
        model = self._model()
        message_id = uuid5(self.run_id, f"answer:{self._steps + 1}")
        began, started_at = time.perf_counter(), clock.now()
        self._stream.emit(event("message.started", message_id=message_id, at=started_at))
        self._first_token_ms = None
        completed = await self._ask(model, message_id, began)
        planned = [self._plan(call) for call in self._numbered(completed.tool_calls)]
        cost = cost_micro_usd(completed.usage, model.info)
        end = None if planned else "completed"
        receipt = _receipt(model, completed, cost, clock.elapsed_ms(began), self._first_token_ms)
        await self._save(message_id, completed.content, completed.reasoning, planned, completed.usage, cost, receipt, started_at, end=end)
        return completed

    async def _ask(self, model: Model, message_id: UUID, began: float) -> Completed:
        """The one retry layer: waits and asks again when it may help, and never twice for the same answer."""
        shrink = 1.0
        empty = 0
        for attempt in range(1, _TRIES + 1):
            context = self._context(model, shrink)
            try:
                completed = await self._interrupts.guard(self._receive(model, context, began))
                if completed.content.strip() or completed.tool_calls:
                    return completed
                empty += 1
                if empty == 2:
                    raise EmptyAnswer(f"{model.name} ended twice without a word or a call.", provider=model.provider)
                reason, wait = "The model answered nothing.", 0.0
            except ContextOverflow as error:
                if attempt == _TRIES:
                    raise
                shrink, reason, wait = shrink * 0.6, error.detail, 0.0
            except ModelError as error:
                if not error.retryable or attempt == _TRIES or (error.retry_after or 0) > _LONGEST_WAIT:
                    raise
                reason, wait = error.detail, error.retry_after if error.retry_after is not None else 0.5 * 2 ** (attempt - 1)
            self._stream.emit(event("message.restarted", message_id=message_id, reason=reason, retry_in_ms=round(wait * 1000)))
            if wait:
                await self._interrupts.guard(asyncio.sleep(wait))
        raise EmptyAnswer(f"{model.name} gave no answer in {_TRIES} tries.", provider=model.provider)

    async def _receive(self, model: Model, context: Context, began: float) -> Completed:
        """One stream of the model, shown as it comes."""
        max_tokens, request_id = self._max_tokens(model, context), f"{self.run_id}:{self._steps + 1}"
        pieces = model.stream(context.messages, self._specs, temperature=self._config.model.temperature, max_tokens=max_tokens, request_id=request_id)
        ids: dict[int, str] = {}
        async for piece in pieces:
            if self._first_token_ms is None and not isinstance(piece, Completed):
                self._first_token_ms = clock.elapsed_ms(began)
            match piece:
                case TextDelta():
                    self._stream.delta("message.delta", piece.text)
                case ReasoningDelta():
                    self._stream.delta("reasoning.delta", piece.text)
                case ToolCallDelta():
                    id = ids.setdefault(piece.index, self._call_id(piece.index, piece.id))
                    self._stream.delta("tool.arguments_delta", piece.arguments, index=piece.index, id=id, name=piece.name)
                case Completed():
                    return piece
        raise ModelError("The stream ended without an answer.", provider=model.provider, retryable=True)

    def _model(self) -> Model:
        model = self._get_model(self.model_name)
        if not self._routed:
            self._routed = True
            reason = "chosen for this run" if self._stream.state["run"].get("model") else "the agent's model" if self._config.model.full_name else "the default model"
            self._stream.emit(event("inference.routed", provider=model.provider, model=model.info.id, kind=model.kind, reason=reason))
        return model

    def _context(self, model: Model, shrink: float) -> Context:
        limit = int(window(self._config, model.info.context_tokens) * shrink)
        try:
            context = build_context(self._config, self._history, self._specs, limit=limit, dropped_before=self._dropped_before)
        except ContextTooSmall as error:
            raise ConversationTooLong(str(error)) from None
        if self._config.limits.max_cost_micro_usd is not None:
            self._check_cost(model, context)
        self._sent = context.total
        parts = [{"name": name, "tokens": tokens} for name, tokens in context.parts.items()]
        self._stream.emit(event("context.built", parts=parts, total=context.total, limit=limit, dropped=context.dropped))
        return context

    def _check_cost(self, model: Model, context: Context) -> None:
        """Refuse a call that would pass the cost limit before it is made."""
        limit = self._config.limits.max_cost_micro_usd or 0
        price = model.info.input_price
        if price is None or model.info.output_price is None:
            raise PriceUnknown(f"{model.name} has no known price, so its cost cannot be limited. Set its price in Settings, or remove the limit.")
        if self._spent + -(-context.total * price // 1_000_000) > limit or self._spent >= limit > 0:
            raise LimitReached(f"The next model call would pass the run's cost limit of ${limit / 1_000_000:.4f}.", limit="cost")

    def _max_tokens(self, model: Model, context: Context) -> int | None:
        """The longest answer allowed: the agent's, or what the cost limit leaves money for."""
        wanted, limit = self._config.model.max_tokens, self._config.limits.max_cost_micro_usd
        if limit is None or not model.info.output_price:
            return wanted
        left = limit - self._spent - -(-context.total * (model.info.input_price or 0) // 1_000_000)
        affordable = max(1, left * 1_000_000 // model.info.output_price)
        return min(wanted, affordable) if wanted else affordable

    async def _save(
        self, message_id: UUID, content: str, reasoning: str, planned: Sequence[Planned], usage: Usage, cost: int | None,
        receipt: dict[str, Any], started_at: Any, *, end: str | None, status: str = "ok",
    ) -> None:  # fmt: skip
        """Write an answer, its journal lines and the approvals it needs in one transaction; then show it."""
        number = (self._steps + 1) * 100
        calls = [{"id": p.call.id, "name": p.call.name, "arguments": p.call.arguments} for p in planned]
        tokens = estimate_tokens(content) + sum(estimate_tokens(c["name"] + c["arguments"]) for c in calls)
        message = _message(
            message_id=message_id, thread_id=self.thread_id, run_id=self.run_id, parent_id=self._history[-1]["message_id"], role="assistant",
            content=content, reasoning=reasoning, tool_calls=calls, status=status, receipt=receipt, tokens=tokens,
        )  # fmt: skip
        model_step = {
            "step_id": uuid5(message_id, "step"), "number": number, "kind": "model_call", "name": receipt["model"], "status": "done", "usage": _usage(usage),
            "cost_micro_usd": cost, "started_at": started_at, "finished_at": clock.now(), "detail": {"provider": receipt["provider"]},
        }  # fmt: skip
        steps = [model_step, *(self._planned_step(p, number + n) for n, p in enumerate(planned, 1))]
        approvals = [self._approval(p) for p in planned if p.permission == "ask" and p.action]
        used = (usage.input_tokens, usage.output_tokens, usage.cached_tokens)
        await self.thread_manager.save_answer(message, tokens_used=used, cost_micro_usd=cost, end=end, problem=None, steps=steps, approvals=approvals)
        self._steps += 1
        self._spent += cost or 0
        self._history.append(message)
        self._journal |= {p.call.id: "planned" for p in planned}
        self._stream.emit(event("message.completed", message=_view(message)))
        for approval in approvals:
            self._approvals[approval["call_id"]] = approval
            self._stream.emit(event("approval.requested", approval=_approval_view(approval)))
        self._count(usage, cost)
        if end:
            self._finished(end, None)

    def _count(self, usage: Usage, cost: int | None) -> None:
        totals = self._totals
        totals["input_tokens"] += usage.input_tokens
        totals["output_tokens"] += usage.output_tokens
        totals["cached_tokens"] += usage.cached_tokens
        totals["cost_micro_usd"] += cost or 0
        totals["cost_known"] = totals["cost_known"] and cost is not None
        self._stream.emit(event("usage.updated", steps=self._steps, **totals))

    # Running tools ----------------------------------------------------------------------------------------------------

    def _open_calls(self) -> list[Planned]:
        """Calls of the newest answer that have no result yet, in order."""
        answered: set[str] = set()
        for row in reversed(self._history):
            if row["role"] == "tool":
                answered.add(row["tool_call_id"])
            elif row["role"] == "assistant" and row["run_id"] == self.run_id:
                calls = (ToolCall(c["id"], c["name"], c["arguments"]) for c in row["tool_calls"] or ())
                return [self._plan(call) for call in calls if call.id not in answered]
            else:
                break
        return []

    async def _run_calls(self, calls: list[Planned]) -> None:
        """Reads beside each other, effects one after the other, in the order they were asked for."""
        while calls:
            self._interrupts.check()
            reads = next((n for n, p in enumerate(calls) if not p.runs_freely), len(calls))
            if reads:
                batch, calls = calls[:reads], calls[reads:]
                await self._save_results(list(await self._interrupts.guard(self._together(batch), grace=1.0)))
            else:
                planned, calls = calls[0], calls[1:]
                await self._run_effect(planned)
        self._check_loop()

    async def _together(self, batch: Sequence[Planned]) -> list[tuple[Planned, ToolResult, int]]:
        return list(await asyncio.gather(*(self._execute(planned) for planned in batch)))

    async def _run_effect(self, planned: Planned) -> None:
        """Intent, act, result: each committed before the next begins."""
        if self._journal.get(planned.call.id) == "started" and planned.effect == "once":
            unknown = "outcome unknown: the worker that ran this was lost before it could say how it ended. Look at the state before you do it again."
            await self._save_results([(planned, ToolResult(unknown, status="unknown"), 0)])
            return
        refusal = await self._refusal(planned)
        if refusal is not None:
            await self._save_results([(planned, refusal, 0)])
            return
        await self.thread_manager.save_intent(planned.call.id, planned.act_hash)
        self._journal[planned.call.id] = "started"
        if (approval := self._approvals.get(planned.call.id)) is not None:
            approval["status"] = "used"
            self._stream.emit(event("approval.decided", approval=_approval_view(approval)))
        await self._save_results([await self._interrupts.guard(self._execute(planned), grace=1.0)])

    async def _refusal(self, planned: Planned) -> ToolResult | None:
        """Why a call may not run, as its result; None when it may. Waits for a person where one is asked."""
        if planned.action is None:
            return ToolResult(planned.error, status="error")
        if planned.permission == "deny":
            return ToolResult("Denied by the agent's permissions. Do not try again; find another way or say that you cannot.", status="denied")
        approval = self._approvals.get(planned.call.id)
        while planned.permission == "ask" and approval is not None and approval["status"] == "pending":
            if await self.thread_manager.wait_for_approval():
                self._stream.state["run"]["status"] = "waiting_approval"
                raise WaitsForPerson
            await self._interrupts.guard(asyncio.sleep(0.05))
            _, rows = await self.thread_manager.journal()
            self._approvals = {row["call_id"]: row for row in rows}
            approval = self._approvals[planned.call.id]
        if planned.permission == "allow" or (approval and approval["status"] in ("approved", "used") and approval["act_hash"] == planned.act_hash):
            return None
        if approval is None or approval["status"] in ("approved", "used"):
            await self.thread_manager.void_approval(planned.call.id)
            return ToolResult("Denied: what was approved is not this exact act.", status="denied")
        note = f" The person says: {approval['note']}" if approval["note"] else ""
        said = "Nobody answered in time, so it was not done." if approval["status"] == "expired" else "The person denied this."
        return ToolResult(said + note, status="denied")

    async def _execute(self, planned: Planned) -> tuple[Planned, ToolResult, int]:
        """Run a call; what it returns, and its milliseconds."""
        began = time.perf_counter()
        self._stream.emit(event("tool.called", call_id=planned.call.id, name=planned.call.name, effect=planned.effect, at=clock.now()))
        if planned.action is None or planned.permission == "deny":
            result = await self._refusal(planned) or ToolResult("", status="error")
        else:
            live = LiveCall(planned.call.id, self.run_id, self._stream)
            result = await self.tool_manager.execute(planned.action, live, planned.arguments)
        return planned, result, clock.elapsed_ms(began)

    async def _save_results(self, results: Sequence[tuple[Planned, ToolResult, int]], *, end: str | None = None, problem: dict[str, Any] | None = None) -> None:
        """Write results as messages in order, and with `end` the run's end; then show them."""
        rows = []
        parent = self._history[-1]["message_id"]
        for n, (planned, result, took) in enumerate(results):
            receipt = {"duration_ms": took, "exit_code": result.exit_code, "truncated": result.truncated, "log_path": result.log_path}
            row = _message(
                message_id=uuid5(self.run_id, planned.call.id), thread_id=self.thread_id, run_id=self.run_id, parent_id=parent, role="tool", content=result.content,
                tool_call_id=planned.call.id, tool_name=planned.call.name, status=result.status, receipt=receipt, tokens=estimate_tokens(result.content),
            ) | {"n": n, "step": _STEP_END.get(result.status, "failed"), "started_at": clock.now()}  # fmt: skip
            parent = row["message_id"]
            rows.append(row)
        await self.thread_manager.save_results(rows, end=end, problem=problem)
        for row, (planned, result, _) in zip(rows, results, strict=True):
            self._history.append(row)
            self._stream.emit(event("tool.returned", call_id=planned.call.id, status=result.status, message=_view(row)))
            for path, size in result.artifacts:
                self._stream.emit(event("artifact.created", path=path, size=size))

    def _plan(self, call: ToolCall) -> Planned:
        """A call with its action, arguments and permission; the same each time it is planned."""
        try:
            action, arguments = self.tool_manager.parse(call.name, call.arguments)
        except ToolError as error:
            return Planned(call, None, {}, str(error), "allow", "")
        default: Literal["allow", "ask"] = "ask" if action.approval else "allow"
        permission = permissions.decide(self._config, self._rules, action.name, arguments, default=default)
        if permission == "allow" and call.id in self._approvals:
            permission = "ask"  # it was asked for when it was planned; an answer is still owed
        return Planned(call, action, arguments, "", permission, permissions.act_hash(self.thread_id, action.name, arguments))

    def _planned_step(self, planned: Planned, number: int) -> dict[str, Any]:
        key = f"{self.run_id}:{planned.call.id}"
        return {
            "step_id": uuid5(self.run_id, f"step:{planned.call.id}"), "number": number, "kind": "tool_call", "name": planned.call.name, "call_id": planned.call.id,
            "effect": planned.effect, "status": "planned", "request_hash": planned.act_hash or None, "idempotency_key": key,
        }  # fmt: skip

    def _approval(self, planned: Planned) -> dict[str, Any]:
        return {
            "approval_id": uuid7(), "run_id": self.run_id, "thread_id": self.thread_id, "agent_id": self.agent_id, "agent_name": self._config.name,
            "call_id": planned.call.id, "action": planned.call.name, "arguments": planned.arguments, "act_hash": planned.act_hash,
            "reason": f"{self._config.name} asks before it uses {planned.call.name}.", "pattern": permissions.always_pattern(planned.arguments),
            "status": "pending", "note": "", "created_at": clock.now(), "expires_in": _APPROVAL_SECONDS, "decided_at": None,
        }  # fmt: skip

    def _numbered(self, calls: Sequence[ToolCall]) -> list[ToolCall]:
        """Calls under ids that no other call of the thread has: some servers repeat theirs in every answer."""
        return [ToolCall(self._call_id(n, call.id), call.name, call.arguments) for n, call in enumerate(calls)]

    def _call_id(self, index: int, given: str) -> str:
        if _CALL_ID.fullmatch(given) and not any(call["id"] == given for row in self._history for call in row["tool_calls"] or ()):
            return given
        return f"call_{self.run_id.hex[-10:]}_{self._steps + 1}_{index}"

    # Limits and ends --------------------------------------------------------------------------------------------------

    def _check_limits(self) -> None:
        if self._steps >= self._config.limits.max_steps:
            raise LimitReached(f"The run made {self._steps} model calls, as many as its agent allows.", limit="steps")

    def _check_loop(self) -> None:
        """End a run that does the same thing and gets the same answer again and again, alone or in turns."""
        seen = [_fingerprint(call, result) for call, result in self._calls_with_results()]
        for period in (1, 2, 3):
            tail = seen[-period * _REPEATS :]
            if len(tail) == period * _REPEATS and len(set(tail)) == period and all(tail[n] == tail[n % period] for n in range(len(tail))):
                names = ", ".join(dict.fromkeys(name for name, _, _ in tail))
                raise LoopDetected(f"{names}: the same {'call' if period == 1 else 'calls'} with the same result {_REPEATS} times in a row.")

    def _calls_with_results(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        mine = [row for row in self._history if row["run_id"] == self.run_id]
        calls = {call["id"]: call for row in mine if row["role"] == "assistant" for call in row["tool_calls"] or ()}
        return [(calls[row["tool_call_id"]], row) for row in mine if row["role"] == "tool" and row["tool_call_id"] in calls]

    async def _end(self, status: str, problem: dict[str, Any] | None) -> None:
        """Bring the run to its end: keep what was written, answer every open call, say why."""
        partial = self._stream.state["partial"]
        content = "".join(partial["content"]) if partial else ""
        reasoning = "".join(partial["reasoning"]) if partial else ""
        if content or reasoning:
            await self._keep_partial(partial["message_id"], content, reasoning)
        cancelled = [(planned, self._cancelled(planned), 0) for planned in self._open_calls()]
        await self._save_results(cancelled, end=status, problem=problem)
        self._finished(status, problem)

    async def _keep_partial(self, message_id: Any, content: str, reasoning: str) -> None:
        model = self._get_model(self.model_name)
        usage = Usage(self._sent, estimate_tokens(content + reasoning), estimated=True)
        completed = Completed(content, reasoning, (), usage, "other", model.name, None)
        cost = cost_micro_usd(usage, model.info)
        receipt = _receipt(model, completed, cost, 0, None)
        await self._save(UUID(str(message_id)), content, reasoning, (), usage, cost, receipt, clock.now(), end=None, status="partial")

    def _cancelled(self, planned: Planned) -> ToolResult:
        if self._journal.get(planned.call.id) == "started" and planned.effect == "once":
            return ToolResult("outcome unknown: the run ended while this was running.", status="unknown")
        return ToolResult("Not done: the run ended first.", status="cancelled")

    def _finished(self, status: str, problem: dict[str, Any] | None) -> None:
        self._stream.emit(event("run.finished", status=status, problem=problem, title=self._title or None), ends=True)


_STEP_END = {"ok": "done", "unknown": "unknown"}


def _message(**members: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"reasoning": "", "tool_calls": [], "tool_call_id": None, "tool_name": None, "status": "ok", "seq": None, "created_at": None}
    return empty | members


_VIEW = ("message_id", "thread_id", "run_id", "parent_id", "seq", "role", "content", "reasoning", "tool_calls", "tool_call_id", "tool_name", "status", "receipt",
         "created_at")  # fmt: skip


def _view(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of messages as watchers see it."""
    return {name: row[name] for name in _VIEW} | {"tool_calls": row["tool_calls"] or []}


def _approval_view(approval: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in approval.items() if name not in ("expires_in", "account_id", "decided_by")}
    if "expires_at" not in shown:
        shown["expires_at"] = clock.after(approval["created_at"], approval["expires_in"])
    return shown


def _usage(usage: Usage) -> dict[str, Any]:
    names = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "estimated")
    return {name: getattr(usage, name) for name in names}


def _receipt(model: Model, completed: Completed, cost: int | None, took_ms: int, first_token_ms: int | None) -> dict[str, Any]:
    return {
        "provider": model.provider, "kind": model.kind, "model": model.info.id, **_usage(completed.usage), "cost_micro_usd": cost, "duration_ms": took_ms,
        "first_token_ms": first_token_ms, "stop_reason": completed.stop_reason, "upstream_id": completed.upstream_id,
    }  # fmt: skip


def _fingerprint(call: Mapping[str, Any], result: Mapping[str, Any]) -> tuple[str, str, str]:
    try:
        arguments = orjson.dumps(orjson.loads(call["arguments"] or "{}"), option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONDecodeError:
        arguments = call["arguments"]
    return call["name"], arguments, result["content"]


def _model_problem(error: ModelError) -> dict[str, Any]:
    title = (type(error).__doc__ or "").strip().splitlines()[0].rstrip(".")
    body = ModelCallFailed(error.detail, provider=error.provider, setting=getattr(error, "setting", "")).body()
    return body | {"title": title, "type": f"urn:vibe:problem:model:{type(error).__name__}"}


def history_from(run: Mapping[str, Any], config: AgentConfig, context_tokens: int | None) -> int:
    """Where in the thread's token count the history of this run begins."""
    return tokens_from(run["thread_tokens"], int(window(config, context_tokens) * 0.85))
