"""ToolManager: which actions a run has, whether a call is well formed, and running it within its bounds."""

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Iterable
from typing import Any

import orjson

from backend.agent.inference.base import ToolSpec
from backend.agent.inference.tokens import estimate_tokens
from backend.agent.tools.base import Action, Call, Tool, ToolError, ToolResult
from backend.kit.db import storable

log = logging.getLogger(__name__)

OUTPUT_LIMIT = 20_000  # characters of a result that reach the model: head and tail of what is longer
_HEAD = 5_000


class ToolManager:
    """The actions of some tools, by name."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self.actions: dict[str, Action] = {action.name: action for tool in tools for action in tool.actions()}

    @functools.cached_property
    def spec_tokens(self) -> int:
        """Estimated tokens that `specs` take of a context."""
        return sum(_spec_tokens(a.name, a.description, str(a.parameters)) for a in self.actions.values())

    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is told of them, in a stable order."""
        return tuple(ToolSpec(a.name, a.description, dict(a.parameters)) for _, a in sorted(self.actions.items()))

    def parse(self, name: str, arguments: str) -> tuple[Action, dict[str, Any]]:
        """A call's action and valid arguments; `ToolError` that helps the model to repair it."""
        action = self.actions.get(name)
        if action is None:
            known = ", ".join(sorted(self.actions)) or "none"
            raise ToolError(f"There is no tool named {name!r}. Tools here: {known}.")
        try:
            decoded = orjson.loads(arguments or "{}")
        except orjson.JSONDecodeError as error:
            raise ToolError(f"The arguments of {name} are not valid JSON ({error}). Write them again as one JSON object.") from None
        if not isinstance(decoded, dict):
            raise ToolError(f"The arguments of {name} must be one JSON object.")
        valid = action.validate(decoded)
        try:
            written = orjson.dumps(valid, default=str)
        except TypeError as error:
            raise ToolError(f"The arguments of {name} cannot be used: {error}.") from None
        if b"\\u0000" in written and _has_nul(valid):
            raise ToolError(f"The arguments of {name} hold the character U+0000, which cannot be kept. Write them without it.")
        return action, valid

    async def execute(self, action: Action, call: Call, arguments: dict[str, Any]) -> ToolResult:
        """Run an action. What goes wrong inside it becomes a result that says so; cancellation reaches it."""
        limit = asyncio.timeout(action.timeout)
        try:
            async with limit:
                return bounded(await action.call(call, **arguments))
        except TimeoutError as error:
            if not limit.expired():
                return _failed(action, error)
            return ToolResult(f"{action.name} was ended after {action.timeout:g} s without an answer.", status="timeout")
        except ToolError as error:
            return bounded(ToolResult(str(error), status="error"))
        except Exception as error:
            return _failed(action, error)


@functools.lru_cache(maxsize=4096)
def _spec_tokens(name: str, description: str, parameters: str) -> int:
    return estimate_tokens(f"{name} {description} {parameters}")


def _failed(action: Action, error: Exception) -> ToolResult:
    log.error("a tool failed", exc_info=error, extra={"tool": action.name})
    return ToolResult(f"{action.name} failed inside the platform; this is not your mistake. Try another way.", status="error")


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_has_nul(part) for pair in value.items() for part in pair)
        case list() | tuple() | set():
            return any(_has_nul(part) for part in value)
        case _:
            return False


def bounded(result: ToolResult) -> ToolResult:
    """A result whose text can be kept and fits: head and tail of a longer one, with what is between named."""
    text = storable(result.content)
    if len(text) <= OUTPUT_LIMIT:
        return result if text is result.content else dataclasses.replace(result, content=text)
    tail = OUTPUT_LIMIT - _HEAD
    where = f"; the whole is in {result.log_path}" if result.log_path else ""
    short = f"{text[:_HEAD]}\n[… {len(text) - OUTPUT_LIMIT:,} characters left out{where} …]\n{text[-tail:]}"
    return dataclasses.replace(result, content=short, truncated=True)
