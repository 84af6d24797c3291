"""One model call: what it is sent, the one retry layer, what it may cost, and the saving of its answer."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from backend.agent.calls import Calls
from backend.agent.context import Context, ContextTooSmall, build_context, window
from backend.agent.inference.base import (
    ChatMessage,
    Completed,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from backend.agent.inference.errors import ContextOverflow, ModelError
from backend.agent.inference.pricing import cost_micro_usd
from backend.agent.inference.registry import Model
from backend.agent.inference.tokens import estimate_tokens
from backend.agent.turn import Turn, usage_view
from backend.kit import clock
from backend.kit.db import storable
from backend.kit.problems import Problem

_TRIES = 4
_LONGEST_WAIT = 60.0  # seconds that a provider may make us wait before we give up
_FIRST_WAIT = 0.5
_LONGEST_ANSWER = 16_384  # tokens asked for of a model whose limit is not known, for vendors refuse more than they can
_SHRINK = 0.6  # of the context, after the provider found it too long
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what every vendor takes back


class LimitReached(Problem):
    """The run reached a limit of its agent"""

    status = 409


class PriceUnknown(Problem):
    """A cost limit needs a known price"""

    status = 409


class SpendingTooFast(Problem):
    """The run spends faster than its agent allows"""

    status = 409


class EmptyAnswer(Problem):
    """The model answered nothing"""

    status = 502


class ConversationTooLong(Problem):
    """The newest message does not fit into the model's context"""

    status = 413


class Asker:
    """Asks one model in one turn."""

    def __init__(self, turn: Turn, calls: Calls, model_name: str, get_model: Callable[[str], Model]) -> None:
        self._turn = turn
        self._calls = calls
        self._model_name = model_name
        self._get_model = get_model
        self._first_token_ms: int | None = None
        self._sent = 0  # estimated tokens of the call that is under way
        self._known: dict[UUID, ChatMessage] = {}
        self._detail: dict[str, Any] = {}  # what the journal keeps of the call that is under way

    async def answer(self) -> Completed:
        """Ask, and save the answer with the calls it asks for; an answer without calls ends the run."""
        turn, model = self._turn, self._model()
        message_id = turn.next_answer_id
        began, started_at = time.perf_counter(), clock.now()
        self._first_token_ms = None
        turn.emit("message.started", message_id=message_id, at=started_at)
        completed = await self._ask(model, message_id, began)
        planned = [self._calls.plan(call) for call in self._numbered(completed.tool_calls)]
        await turn.save_answer(
            message_id,
            storable(completed.content),
            storable(completed.reasoning),
            calls=[{"id": p.call.id, "name": p.call.name, "arguments": p.call.arguments} for p in planned],
            call_steps=[self._calls.step(p) for p in planned],
            approvals=[self._calls.approval(p) for p in planned if p.must_ask],
            usage=completed.usage,
            receipt=self._receipt(model, completed, clock.elapsed_ms(began)),
            started_at=started_at,
            detail=self._detail,
            end=None if planned else "completed",
        )
        return completed

    async def keep_partial(self, partial: dict[str, Any]) -> None:
        """Save what was written of an answer when the run was ended in the middle of it."""
        content, reasoning = storable("".join(partial["content"])), storable("".join(partial["reasoning"]))
        if not content and not reasoning:
            return
        model = self._model()
        usage = Usage(self._sent, estimate_tokens(content + reasoning), estimated=True)
        receipt = self._receipt(model, Completed(content, reasoning, (), usage, "other", model.name, None), 0)
        await self._turn.save_answer(
            UUID(str(partial["message_id"])), content, reasoning, calls=(), call_steps=(), approvals=(), usage=usage, receipt=receipt,
            started_at=clock.now(), detail=self._detail, status="partial",
        )  # fmt: skip

    async def _ask(self, model: Model, message_id: UUID, began: float) -> Completed:
        """The one retry layer: waits and asks again when it may help, and never twice for the same answer."""
        most: int | None = None  # tokens to send, once the provider found what was sent too long
        empty = 0
        for attempt in range(1, _TRIES + 1):
            context = self._context(model, most)
            try:
                completed = await self._turn.interrupts.guard(self._receive(model, context, began))
                if completed.content.strip() or completed.tool_calls:
                    return completed
                empty += 1
                if empty == 2:
                    break
                reason, wait = "The model answered nothing.", 0.0
            except ContextOverflow as error:
                if attempt == _TRIES:
                    raise
                most, reason, wait = int(context.total * _SHRINK), error.detail, 0.0
            except ModelError as error:
                if not error.retryable or attempt == _TRIES or (error.retry_after or 0) > _LONGEST_WAIT:
                    raise
                reason = error.detail
                wait = error.retry_after if error.retry_after is not None else _FIRST_WAIT * 2 ** (attempt - 1)
            self._turn.emit("message.restarted", message_id=message_id, reason=reason, retry_in_ms=round(wait * 1000))
            if wait:
                await self._turn.interrupts.guard(asyncio.sleep(wait))
        raise EmptyAnswer(f"{model.name} ended its answer without a word or a call, more than once.", provider=model.provider)

    async def _receive(self, model: Model, context: Context, began: float) -> Completed:
        """One stream of the model, shown as it comes."""
        stream, ids = self._turn.stream, dict[int, str]()
        pieces = model.stream(
            context.messages,
            self._calls.specs,
            temperature=self._turn.config.model.temperature,
            max_tokens=self._max_tokens(model, context),
            request_id=f"{self._turn.run_id}:{self._turn.steps + 1}",
        )
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, Completed):
                    return piece
                if self._first_token_ms is None:
                    self._first_token_ms = clock.elapsed_ms(began)
                match piece:
                    case TextDelta():
                        stream.delta("message.delta", storable(piece.text))
                    case ReasoningDelta():
                        stream.delta("reasoning.delta", storable(piece.text))
                    case ToolCallDelta():
                        id = ids.setdefault(piece.index, self._call_id(piece.index, piece.id))
                        stream.delta("tool.arguments_delta", storable(piece.arguments), index=piece.index, id=id, name=storable(piece.name))
        raise ModelError("The stream ended without an answer.", provider=model.provider, retryable=True)

    def _model(self) -> Model:
        model = self._get_model(self._model_name)
        if not self._detail:
            reason = "the agent's model" if self._turn.config.model.full_name == self._model_name else "chosen for this run, or the default"
            self._detail = {"provider": model.provider, "model": model.info.id, "kind": model.kind, "reason": reason}
            self._turn.emit("inference.routed", **self._detail)
        return model

    def _context(self, model: Model, most: int | None) -> Context:
        """What is sent: within the window, and within the money."""
        turn = self._turn
        limit = window(turn.config, model.info.context_tokens)
        if most is not None:
            limit = min(limit, most)
        try:
            context = build_context(turn.config, turn.history, self._calls.spec_tokens, limit=limit, dropped_before=turn.dropped_before, known=self._known)
        except ContextTooSmall as error:
            raise ConversationTooLong(str(error)) from None
        self._check_cost(model, context)
        self._sent = context.total
        parts = [{"name": name, "tokens": tokens} for name, tokens in context.parts.items()]
        built = {"parts": parts, "total": context.total, "limit": limit, "dropped": context.dropped}
        turn.emit("context.built", **built)
        self._detail = self._detail | {"context": built}
        return context

    def _check_cost(self, model: Model, context: Context) -> None:
        """Refuse a call that would pass a cost limit before it is made."""
        self._check_pace()
        limit = self._turn.config.limits.max_cost_micro_usd
        if limit is None:
            return
        price = model.info.input_price
        if price is None or model.info.output_price is None:
            raise PriceUnknown(f"{model.name} has no known price, so its cost cannot be limited. Set its price in Settings, or remove the limit.")
        spent = self._turn.spent
        if spent + _cost(context.total, price) > limit or spent >= limit > 0:
            raise LimitReached(f"The next model call would pass the run's cost limit of ${limit / 1_000_000:.4f}.", limit="cost")

    def _check_pace(self) -> None:
        limit = self._turn.config.limits.max_cost_per_minute_micro_usd
        if limit is None:
            return
        since = clock.after(clock.now(), -60)
        recent = [row["receipt"]["cost_micro_usd"] or 0 for row in self._turn.mine() if row["role"] == "assistant" and row["created_at"] > since]
        if (spent := sum(recent)) > limit:
            raise SpendingTooFast(f"${spent / 1_000_000:.4f} within a minute, and ${limit / 1_000_000:.4f} are allowed.", limit="cost per minute")

    def _max_tokens(self, model: Model, context: Context) -> int | None:
        """The longest answer allowed: the agent's, or what the cost limit leaves money for."""
        wanted, limit = self._turn.config.model.max_tokens, self._turn.config.limits.max_cost_micro_usd
        if limit is None or not model.info.output_price:
            return wanted
        left = limit - self._turn.spent - _cost(context.total, model.info.input_price or 0)
        affordable = max(1, left * 1_000_000 // model.info.output_price)
        if model.info.max_output_tokens is not None:
            longest = model.info.max_output_tokens
        elif model.info.context_tokens is not None:
            longest = max(1, model.info.context_tokens - context.total)
        else:
            longest = _LONGEST_ANSWER
        return min(wanted or longest, affordable)

    def _numbered(self, calls: Sequence[ToolCall]) -> list[ToolCall]:
        """Calls under ids that no other call of the thread has: some servers repeat theirs in every answer."""
        return [ToolCall(self._call_id(n, call.id), storable(call.name), storable(call.arguments)) for n, call in enumerate(calls)]

    def _call_id(self, index: int, given: str) -> str:
        known = (call["id"] for row in self._turn.history if row["tool_calls"] for call in row["tool_calls"])
        if _CALL_ID.fullmatch(given) and given not in known:
            return given
        return f"call_{self._turn.run_id.hex[-10:]}_{self._turn.steps + 1}_{index}"

    def _receipt(self, model: Model, completed: Completed, took_ms: int) -> dict[str, Any]:
        return {
            "provider": model.provider, "kind": model.kind, "model": model.info.id, **usage_view(completed.usage),
            "cost_micro_usd": cost_micro_usd(completed.usage, model.info), "duration_ms": took_ms, "first_token_ms": self._first_token_ms,
            "stop_reason": completed.stop_reason, "upstream_id": completed.upstream_id,
        }  # fmt: skip


def _cost(tokens: int, price: int) -> int:
    """Micro-USD of some tokens at a price per million, rounded up."""
    return -(-tokens * price // 1_000_000)
