"""What the runner and a model provider say to each other.

A provider speaks one vendor's wire and nothing else: it does not retry, choose or count money. The runner holds the one retry
layer, the router chooses, `pricing` counts.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

Role = Literal["system", "user", "assistant", "tool"]
Kind = Literal["centralized", "decentralized", "local", "demo"]
StopReason = Literal["stop", "tool_calls", "length", "content_filter", "other"]


class ToolCall(Struct, frozen=True):
    """One call the model asks for. `arguments` is the JSON text as the model wrote it, which may not be valid JSON."""

    id: str
    name: str
    arguments: str


class ChatMessage(Struct, frozen=True, omit_defaults=True):
    """One entry of a conversation. `tool_call_id` belongs to the role `tool` and names the call it answers."""

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class ToolSpec(Struct, frozen=True):
    """A function the model may call; `parameters` is a JSON Schema of its arguments object."""

    name: str
    description: str
    parameters: dict[str, Any]


class Options(Struct, frozen=True, omit_defaults=True):
    """How to answer, in OpenAI's words; what is left out the vendor decides. A provider that cannot do one of them refuses.

    `tool_choice` is `none`, `auto`, `required` or `{"type": "function", "function": {"name": …}}`.
    """

    stop: tuple[str, ...] = ()
    top_p: float | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None


class ModelRequest(Struct, frozen=True):
    """One model call. `model` is the vendor's own name; `None` leaves a value to the vendor.

    `request_id` names the step the call is made for: the same in each attempt of it, another in each other step.
    """

    model: str
    messages: Sequence[ChatMessage]
    tools: Sequence[ToolSpec] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    request_id: str = ""
    options: Options | None = None


class Usage(Struct, frozen=True):
    """Tokens of one call. `cached_tokens` are part of the input, `reasoning_tokens` of the output.

    `estimated` says that the vendor sent no usage and that we counted.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


class TextDelta(Struct, frozen=True):
    """A piece of the answer: all that one network read held."""

    text: str


class ReasoningDelta(Struct, frozen=True):
    """A piece of what the model thinks before it answers."""

    text: str


class ToolCallDelta(Struct, frozen=True):
    """A piece of a call's arguments. `id` and `name` are the call's own, in every piece; `index` counts calls from 0."""

    index: int
    id: str
    name: str
    arguments: str


class Completed(Struct, frozen=True):
    """The whole answer; the last event of every stream that did not raise."""

    content: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    stop_reason: StopReason
    model: str
    upstream_id: str | None


ModelEvent = TextDelta | ReasoningDelta | ToolCallDelta | Completed


class ModelInfo(Struct, frozen=True):
    """What is known of a model. Prices are whole micro-USD per million tokens; `None` is unknown, never free."""

    id: str
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    supports_tools: bool | None = None
    input_price: int | None = None
    output_price: int | None = None
    cached_price: int | None = None


class Provider(Protocol):
    """One way to reach models. A stream ends with `Completed` or raises a `ModelError`."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Ask the model. Closing the iterator (`aclose`) ends the upstream call."""
        ...

    async def models(self) -> list[ModelInfo]:
        """The models this provider offers now. Raises `ModelError`; a failed read is never an empty list."""
        ...

    async def aclose(self) -> None:
        """Give back what the provider itself opened."""
        ...
