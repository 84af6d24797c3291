"""Ollama's own wire: lines of JSON from `/api/chat`. Local, without a key."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, TypeVar

import aiohttp
import msgspec
from msgspec import Struct

from backend.agent.inference.base import (
    ChatMessage,
    Completed,
    Kind,
    ModelEvent,
    ModelInfo,
    ModelRequest,
    Options,
    ReasoningDelta,
    StopReason,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolSpec,
    Usage,
)
from backend.agent.inference.errors import BadModelRequest, ModelError
from backend.agent.inference.providers.http import DEFAULT_TIMEOUTS, Beat, Timeouts, Wire
from backend.agent.inference.providers.openai import new_call_id, sound_arguments
from backend.agent.inference.tokens import estimate_usage

DEFAULT_CONTEXT_TOKENS = 16_384
_MAX_LINE_BYTES = 16 * 1024 * 1024


class _SentFunction(Struct, frozen=True):
    name: str
    arguments: msgspec.Raw


class _SentCall(Struct, frozen=True):
    function: _SentFunction


class _SentMessage(Struct, frozen=True, omit_defaults=True):
    role: str
    content: str
    tool_calls: tuple[_SentCall, ...] = ()
    tool_name: str | None = None


class _SentSpec(Struct, frozen=True):
    function: ToolSpec
    type: Literal["function"] = "function"


class _Options(Struct, frozen=True, omit_defaults=True):
    num_ctx: int | None = None
    temperature: float | None = None
    num_predict: int | None = None
    stop: tuple[str, ...] = ()
    top_p: float | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None


class _Body(Struct, frozen=True, omit_defaults=True):
    model: str
    messages: list[_SentMessage]
    stream: bool
    options: _Options
    truncate: bool | None = None
    tools: list[_SentSpec] | None = None
    format: str | dict[str, Any] | None = None


class _Function(Struct):
    name: str
    arguments: dict[str, Any] | str | None = None


class _Call(Struct):
    function: _Function
    id: str | None = None


class _Message(Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(Struct):
    model: str | None = None
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: str | None = None


class _Tag(Struct):
    name: str
    digest: str = ""


class _Tags(Struct):
    models: list[_Tag]


class _Asked(Struct):
    model: str


class _Shown(Struct):
    model_info: dict[str, Any] = {}
    capabilities: list[str] | None = None


class _Version(Struct):
    version: str


class Found(Struct, frozen=True):
    """What stands at an address: `problem` says why it is not a working Ollama."""

    version: str | None = None
    models: tuple[str, ...] = ()
    problem: str | None = None


_T = TypeVar("_T")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode
_STOP_REASONS: dict[str, StopReason] = {"stop": "stop", "length": "length"}


class Ollama:
    """One Ollama server.

    `context_tokens` is the context we ask for: Ollama's own default is small, and what does not fit it used to be cut
    without a word. More context takes more memory.
    """

    name = "ollama"
    kind: Kind = "local"

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        base_url: str,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        beat: Beat | None = None,
        context_tokens: int = DEFAULT_CONTEXT_TOKENS,
    ) -> None:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        self._wire = Wire(session, provider=self.name, base_url=base_url, headers=headers, timeouts=timeouts, beat=beat)
        self._context_tokens = context_tokens
        self._shown: dict[str, _Shown] = {}  # by digest: what a model is does not change

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Ask the model. Raises `ModelError`."""
        wire, clock = self._wire, asyncio.get_running_loop().time
        answer = _Answer(wire, request)
        rest: list[bytes] = []
        held = 0
        asked = clock()
        async with wire.call("POST", "/api/chat", self._body(request)) as response:
            with wire.incoming(response, asked + wire.timeouts.first_byte, wire.timeouts.first_byte) as incoming:
                while not answer.done:
                    data = await incoming.read()
                    lines = data.split(b"\n") if data else [b"", b""]
                    if len(lines) > 1:
                        lines[0] = b"".join(rest) + lines[0]
                        rest, held = [], 0
                    rest.append(lines.pop())
                    held += len(rest[-1])
                    if held > _MAX_LINE_BYTES:
                        raise wire.failed("ollama sent a line of more than 16 MB.")
                    for line in lines:
                        answer.feed(line)
                    for delta in answer.take():
                        yield delta
                    if not data:
                        break
                    incoming.wait(wire.timeouts.idle)
            await wire.drain(response)
            completed = answer.completed()
        yield completed

    async def models(self) -> list[ModelInfo]:
        """The models that are installed and can chat. Raises `ModelError`."""
        tags = await self._tags()
        infos = [self._info(tag, await self._show(tag)) for tag in tags]
        return [info for info in infos if info is not None]

    async def aclose(self) -> None:
        """Nothing to give back: the session belongs to the process."""

    async def _tags(self) -> list[_Tag]:
        return self._parsed(await self._wire.fetch("GET", "/api/tags"), _Tags).models

    async def _show(self, tag: _Tag) -> _Shown:
        if tag.digest and (shown := self._shown.get(tag.digest)):
            return shown
        raw = await self._wire.fetch("POST", "/api/show", _encode(_Asked(tag.name)))
        shown = self._parsed(raw, _Shown)
        if tag.digest:
            self._shown[tag.digest] = shown
        return shown

    def _info(self, tag: _Tag, shown: _Shown) -> ModelInfo | None:
        capabilities = shown.capabilities
        if capabilities is not None and "completion" not in capabilities:
            return None
        lengths = [
            n for key, n in shown.model_info.items() if key.endswith(".context_length") and isinstance(n, int)
        ]
        return ModelInfo(
            id=tag.name,
            context_tokens=min([self._context_tokens, *lengths]),
            supports_tools=None if capabilities is None else "tools" in capabilities,
            input_price=0,
            output_price=0,
            cached_price=0,
        )

    def _parsed(self, raw: bytes, shape: type[_T]) -> _T:
        try:
            return msgspec.json.decode(raw, type=shape)
        except msgspec.MsgspecError as error:
            raise self._wire.failed(
                f"What answers at {self._wire.base_url} is not Ollama: {error}"
            ) from error

    def _body(self, request: ModelRequest) -> bytes:
        given = request.options or Options()
        if given.tool_choice not in (None, "auto", "none"):
            raise BadModelRequest("Ollama cannot be made to call a tool: leave tool_choice at auto.", provider=self.name)
        sampling = (given.stop, given.top_p, given.seed, given.frequency_penalty, given.presence_penalty)
        return _encode(
            _Body(
                model=request.model,
                messages=_sent(request.messages),
                stream=True,
                truncate=False,  # newer servers then refuse what is too long, instead of cutting it
                tools=[_SentSpec(tool) for tool in request.tools if given.tool_choice != "none"] or None,
                options=_Options(self._context_tokens, request.temperature, request.max_tokens, *sampling),
                format=_format(given.response_format),
            )
        )


def _format(wanted: dict[str, Any] | None) -> str | dict[str, Any] | None:
    """OpenAI's `response_format` as Ollama says it: a schema, any JSON, or nothing."""
    kind = (wanted or {}).get("type")
    if wanted is not None and kind == "json_schema":
        schema: dict[str, Any] = wanted["json_schema"].get("schema") or {}
        return schema
    return "json" if kind == "json_object" else None


async def probe(session: aiohttp.ClientSession, base_url: str, *, seconds: float = 1.5) -> Found:
    """Look whether an Ollama answers at an address, within about `seconds`. Never raises."""
    ollama = Ollama(
        session, base_url=base_url, timeouts=Timeouts(connect=seconds, first_byte=seconds, idle=seconds)
    )
    try:
        version = ollama._parsed(await ollama._wire.fetch("GET", "/api/version"), _Version).version
        tags = await ollama._tags()
    except ModelError as error:
        return Found(problem=error.detail)
    return Found(version=version, models=tuple(tag.name for tag in tags))


def _sent(messages: Sequence[ChatMessage]) -> list[_SentMessage]:
    """Ollama's shape: arguments are an object, and a result names its tool instead of the call's id."""
    names: dict[str, str] = {}
    sent: list[_SentMessage] = []
    for message in messages:
        calls = []
        for call in message.tool_calls:
            names[call.id] = call.name
            calls.append(
                _SentCall(_SentFunction(call.name, msgspec.Raw(sound_arguments(call.arguments).encode())))
            )
        tool = names.get(message.tool_call_id) if message.tool_call_id else None
        sent.append(_SentMessage(message.role, message.content, tuple(calls), tool))
    return sent


class _Answer:
    """An answer that is being assembled from lines."""

    def __init__(self, wire: Wire, request: ModelRequest) -> None:
        self._wire = wire
        self._request = request
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[ToolCall] = []
        self._last: _Line | None = None
        self._fresh: list[ModelEvent] = []

    @property
    def done(self) -> bool:
        return self._last is not None

    def feed(self, raw: bytes) -> None:
        if self.done or not raw or raw.isspace():
            return
        try:
            line = _decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._wire.failed(f"ollama sent a line that makes no sense: {error}") from error
        if line.error is not None:
            raise self._wire.failure(None, "", line.error)
        if (message := line.message) is not None:
            if message.thinking:
                self._piece(self._reasoning, ReasoningDelta(message.thinking))
            if message.content:
                self._piece(self._text, TextDelta(message.content))
            for call in message.tool_calls or ():
                self._call(call)
        if line.done:
            self._last = line

    def take(self) -> list[ModelEvent]:
        fresh, self._fresh = self._fresh, []
        return fresh

    def completed(self) -> Completed:
        last = self._last
        if last is None:
            raise self._wire.failed("ollama ended the stream in the middle of the answer.")
        text, reasoning, calls = "".join(self._text), "".join(self._reasoning), tuple(self._calls)
        reason = _STOP_REASONS.get(last.done_reason or "stop", "other")
        if last.eval_count is None:
            usage = estimate_usage(self._request, text, reasoning, calls)
        else:  # a prompt that was answered from the cache has no count
            usage = Usage(input_tokens=last.prompt_eval_count or 0, output_tokens=last.eval_count)
        return Completed(
            content=text,
            reasoning=reasoning,
            tool_calls=calls,
            usage=usage,
            stop_reason="tool_calls" if calls and reason == "stop" else reason,
            model=last.model or self._request.model,
            upstream_id=None,
        )

    def _piece(self, whole: list[str], delta: TextDelta | ReasoningDelta) -> None:
        whole.append(delta.text)
        last = self._fresh[-1] if self._fresh else None
        if type(last) is type(delta) and isinstance(last, TextDelta | ReasoningDelta):
            self._fresh[-1] = type(delta)(last.text + delta.text)
        else:
            self._fresh.append(delta)

    def _call(self, call: _Call) -> None:
        given = call.function.arguments
        arguments = given if isinstance(given, str) else _encode(given or {}).decode()
        taken = any(known.id == call.id for known in self._calls)
        whole = ToolCall(new_call_id() if not call.id or taken else call.id, call.function.name, arguments)
        self._fresh.append(ToolCallDelta(len(self._calls), whole.id, whole.name, arguments))
        self._calls.append(whole)
