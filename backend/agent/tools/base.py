"""What a tool is: a dataclass of what it needs, whose actions are methods. A signature is the schema, a docstring the manual.

    @action(effect="once")
    async def shell(self, call: Call, command: Annotated[str, "The command."], timeout: int = 120) -> ToolResult:
        \"\"\"Run a command and wait for it.\"\"\"

MCP tools and tools that users make become the same frozen `Action`, so the runner has one path.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from backend.agent.schemas import Effect, ToolStatus


class ToolError(Exception):
    """What the model is told when a tool cannot do what it asked; it may try another way."""


class ToolUnavailable(ToolError):
    """A tool that does not work here, with the reason and the fix."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What an action gave. `content` is for the model; the rest goes into the receipt."""

    content: str
    status: ToolStatus = "ok"
    exit_code: int | None = None
    truncated: bool = False
    log_path: str | None = None
    artifacts: tuple[tuple[str, int], ...] = ()  # path and size of files it wrote


class Call(Protocol):
    """What an action knows of the call it serves."""

    id: str
    idempotency_key: str

    def output(self, text: str) -> None:
        """Show the watcher what is being printed."""

    def progress(self, text: str) -> None:
        """Show the watcher how far it is."""


Handler = Callable[..., Awaitable[ToolResult]]
Method = TypeVar("Method", bound=Handler)


@dataclass(frozen=True, slots=True)
class Action:
    """One function that a model can call."""

    name: str
    description: str
    effect: Effect
    arguments: type[BaseModel]
    call: Handler
    approval: bool = False
    timeout: float = 600.0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the action takes them; `ToolError` that says what is wrong."""
        try:
            valid = self.arguments.model_validate(arguments)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors()[:5])
            raise ToolError(f"Invalid arguments for {self.name}: {wrong}. Correct them and call again.") from None
        return {name: getattr(valid, name) for name in type(valid).model_fields}


@dataclass(frozen=True, slots=True)
class _Declared:
    effect: Effect
    approval: bool
    timeout: float


def action(*, effect: Effect, approval: bool = False, timeout: float = 600.0) -> Callable[[Method], Method]:
    """Make a method an action. `effect` says what a second run would do, `approval` that a person is asked by default, `timeout` is in seconds."""

    def mark(method: Method) -> Method:
        method.__action__ = _Declared(effect, approval, timeout)  # type: ignore[attr-defined]
        return method

    return mark


class Tool:
    """Base of tools: finds the actions of the class."""

    def actions(self) -> list[Action]:
        """The actions, in the order they are written."""
        found = []
        for name, method in vars(type(self)).items():
            if (declared := getattr(method, "__action__", None)) is None:
                continue
            model, schema = _schema(method)
            found.append(
                Action(name, _description(method), declared.effect, model, getattr(self, name), declared.approval, declared.timeout, schema)
            )
        return found


@functools.cache
def _description(method: Handler) -> str:
    return inspect.cleandoc(method.__doc__ or "")


@functools.cache
def _schema(method: Handler) -> tuple[type[BaseModel], dict[str, Any]]:
    hints = get_type_hints(method, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(method).parameters.values())[2:]:  # self, call
        hint, description = hints[parameter.name], ""
        if get_origin(hint) is Annotated:
            hint, description = get_args(hint)[0], next((m for m in get_args(hint)[1:] if isinstance(m, str)), "")
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (hint, Field(default, description=description))
    model = create_model(method.__name__, __config__=ConfigDict(extra="forbid"), **fields)
    schema = model.model_json_schema()
    schema.pop("title", None)
    for part in schema.get("properties", {}).values():
        part.pop("title", None)
    return model, schema
