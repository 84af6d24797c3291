"""Every server that speaks OpenAI's `/chat/completions`: OpenAI, OpenRouter, vLLM, LM Studio, llama.cpp and others.

A thin client of our own, because the usual ones cost ten to a hundred times its processor time for each token. It handles whole
network reads: what arrived together leaves together, as one delta.
"""

import asyncio
import contextlib
import functools
import ipaddress
import secrets
from collections.abc import AsyncGenerator, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any, Literal
from urllib.parse import urlsplit

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
from backend.agent.inference.catalogue import Vendor, known
from backend.agent.inference.errors import ModelError
from backend.agent.inference.providers.http import DEFAULT_TIMEOUTS, Beat, ErrorBody, Timeouts, Wire
from backend.agent.inference.providers.sse import MAX_EVENT_BYTES, EventReader, TooLong
from backend.agent.inference.tokens import estimate_usage

_SHORT = 2_000  # characters of a message that is kept as JSON
# After the answer's last word: how long (seconds) to wait for usage and `[DONE]`, which some servers never send.
_TAIL_SECONDS = 3.0

# ---- what we send ----


class _Function(Struct, frozen=True):
    name: str
    arguments: str


class _SentCall(Struct, frozen=True):
    id: str
    function: _Function
    type: Literal["function"] = "function"


class _SentMessage(Struct, frozen=True, omit_defaults=True):
    role: str
    content: str | None
    tool_calls: tuple[_SentCall, ...] = ()
    tool_call_id: str | None = None


class _SentSpec(Struct, frozen=True):
    function: ToolSpec
    type: Literal["function"] = "function"


class _StreamOptions(Struct, frozen=True):
    include_usage: bool = True


class _Body(Options, frozen=True, omit_defaults=True, kw_only=True):
    model: str
    messages: list[msgspec.Raw]
    stream: bool
    stream_options: _StreamOptions
    tools: list[_SentSpec] | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


def sound_arguments(arguments: str) -> str:
    """A call's arguments as a JSON object. Servers that parse the history would refuse the whole conversation otherwise."""
    if not arguments.strip():
        return "{}"
    try:
        msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:
        return msgspec.json.encode({"invalid_json": arguments}).decode()
    return arguments


def _sent(message: ChatMessage) -> msgspec.Raw:
    """A message as JSON. Short ones are kept: every step of a run sends all messages again."""
    return _kept(message) if len(message.content) < _SHORT else msgspec.Raw(_encode(_wire(message)))


@functools.lru_cache(maxsize=2048)
def _kept(message: ChatMessage) -> msgspec.Raw:
    return msgspec.Raw(_encode(_wire(message)))


def _wire(message: ChatMessage) -> _SentMessage:
    calls = tuple(
        _SentCall(id=call.id, function=_Function(call.name, sound_arguments(call.arguments)))
        for call in message.tool_calls
    )
    content = None if calls and not message.content else message.content
    return _SentMessage(
        role=message.role, content=content, tool_calls=calls, tool_call_id=message.tool_call_id
    )


# ---- what we read; unknown fields are skipped, and nearly every server sends null for one of these ----


class _FunctionPart(Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _CallPart(Struct):
    index: int | None = None
    id: str | None = None
    function: _FunctionPart | None = None


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_CallPart] | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    message: _Delta | None = None  # of a server that does not stream
    finish_reason: str | None = None
    index: int | None = None


class _InputDetails(Struct):
    cached_tokens: int | None = None


class _OutputDetails(Struct):
    reasoning_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Chunk(Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: ErrorBody | str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Chunk).decode

_STOP_REASONS: dict[str, StopReason] = {
    "stop": "stop",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "content_filter": "content_filter",
}


class _Call:
    """A call that is being assembled."""

    def __init__(self, index: int, id: str, vendor_id: str | None) -> None:
        self.index = index
        self.id = id
        self.vendor_id = vendor_id
        self.name = ""
        self.arguments: list[str] = []
        self.fresh: list[str] = []  # arguments that arrived in this read

    def told(self) -> ToolCallDelta:
        self.arguments += self.fresh
        delta = ToolCallDelta(self.index, self.id, self.name, "".join(self.fresh))
        self.fresh = []
        return delta


def new_call_id() -> str:
    """An id for a call whose server gave none."""
    return f"call_{secrets.token_hex(12)}"


class Answer:
    """An answer that is being assembled from chunks. `take` after each network read gives what is new."""

    def __init__(self, wire: Wire, request: ModelRequest) -> None:
        self._wire = wire
        self._request = request
        self._model: str | None = None
        self._id: str | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._usage: _Usage | None = None
        self._finish: str | None = None
        self._done = False
        # What is new since the last `take`: runs of one kind, in their order.
        self._fresh: list[tuple[type[TextDelta] | type[ReasoningDelta], list[str]] | _Call] = []

    @property
    def finished(self) -> bool:
        """The model has said its last word; usage and `[DONE]` may still come."""
        return self._finish is not None

    @property
    def done(self) -> bool:
        """Nothing more will come."""
        return self._done

    def feed(self, data: bytes) -> None:
        """One event. Raises `ModelError` for what makes no sense, and for an error the server put into the stream."""
        if data == b"[DONE]" or self._done:
            self._done = True
            return
        if not data or data.isspace():
            return
        try:
            chunk = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._wire.failed(
                f"{self._wire.provider} sent a chunk that makes no sense: {error}"
            ) from error
        if chunk.error is not None:
            raise self._told(chunk.error)
        if chunk.id:
            self._id = chunk.id
        if chunk.model:
            self._model = chunk.model
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices or ():
            if not choice.index:  # we ask for one answer; others are not ours
                self._choice(choice)

    def take(self) -> list[ModelEvent]:
        """The deltas since the last `take`; neighbours of one kind are one delta."""
        events: list[ModelEvent] = []
        for fresh in self._fresh:
            events.append(fresh.told() if isinstance(fresh, _Call) else fresh[0]("".join(fresh[1])))
        self._fresh.clear()
        return events

    def completed(self) -> Completed:
        """The whole answer. Raises `UpstreamFailed` when it is not whole."""
        text = "".join(self._text)
        reasoning = "".join(self._reasoning)
        calls = tuple(ToolCall(call.id, call.name, "".join(call.arguments)) for call in self._calls)
        if not self.finished and not (self._done and (text or calls)):
            raise self._wire.failed(f"{self._wire.provider} ended the stream in the middle of the answer.")
        reason = _STOP_REASONS.get(self._finish or "", "other")
        if calls and reason in ("stop", "other"):
            reason = "tool_calls"
        usage = self._usage
        return Completed(
            content=text,
            reasoning=reasoning,
            tool_calls=calls,
            usage=estimate_usage(self._request, text, reasoning, calls) if usage is None else _counted(usage),
            stop_reason=reason,
            model=self._model or self._request.model,
            upstream_id=self._id,
        )

    def _told(self, error: ErrorBody | str) -> ModelError:
        if isinstance(error, str):
            return self._wire.failure(None, "", error)
        return self._wire.failure(error.status, *error.words)

    def _choice(self, choice: _Choice) -> None:
        delta = choice.delta or choice.message
        if delta is not None:
            thought = delta.reasoning_content or delta.reasoning
            if thought:
                self._reasoning.append(thought)
                self._piece(ReasoningDelta, thought)
            text = delta.content or delta.refusal
            if text:
                self._text.append(text)
                self._piece(TextDelta, text)
            for part in delta.tool_calls or ():
                self._call_part(part)
        if choice.finish_reason:
            if choice.finish_reason == "error":
                raise self._wire.failed(f"{self._wire.provider} broke the answer off.")
            self._finish = choice.finish_reason

    def _piece(self, kind: type[TextDelta] | type[ReasoningDelta], text: str) -> None:
        last = self._fresh[-1] if self._fresh else None
        if isinstance(last, tuple) and last[0] is kind:
            last[1].append(text)
        else:
            self._fresh.append((kind, [text]))

    def _call_part(self, part: _CallPart) -> None:
        function = part.function or _FunctionPart()
        call = self._located(part.index, part.id or None, function.name or "")
        call.name = call.name or function.name or ""
        arguments = function.arguments
        if arguments:
            call.fresh.append(arguments if isinstance(arguments, str) else _encode(arguments).decode())
        if call not in self._fresh:
            self._fresh.append(call)

    def _located(self, index: int | None, id: str | None, name: str) -> _Call:
        """The call a piece belongs to: by index; by id, then by neighbourhood, with servers that leave the index out."""
        call: _Call | None = None
        if index is not None:
            call = self._by_index.get(index)
            if call is not None and name and id and call.vendor_id and id != call.vendor_id:
                call = None  # some servers call every parallel call number 0
        elif id is not None:
            call = next((known for known in self._calls if known.vendor_id == id), None)
            if call is None and not name and self._calls:
                call = self._calls[-1]
        elif not name and self._calls:
            call = self._calls[-1]
        if call is None:
            taken = any(known.id == id for known in self._calls)
            call = _Call(len(self._calls), new_call_id() if id is None or taken else id, id)
            self._calls.append(call)
            if index is not None:
                self._by_index[index] = call
        return call


def _counted(usage: _Usage) -> Usage:
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
    reasoning = usage.completion_tokens_details.reasoning_tokens if usage.completion_tokens_details else None
    return Usage(
        input_tokens=usage.prompt_tokens or 0,
        output_tokens=usage.completion_tokens or 0,
        cached_tokens=cached or 0,
        reasoning_tokens=reasoning or 0,
    )


# ---- the listing of models ----


class _Pricing(Struct):
    """USD per token, as decimal text."""

    prompt: Decimal | None = None
    completion: Decimal | None = None
    input_cache_read: Decimal | None = None


class _TopProvider(Struct):
    max_completion_tokens: int | None = None


class _Meta(Struct):
    n_ctx_train: int | None = None


class _Listed(Struct):
    id: str
    context_length: int | None = None  # OpenRouter, Together
    max_model_len: int | None = None  # vLLM
    context_window: int | None = None  # Groq
    max_context_length: int | None = None  # Mistral, LM Studio
    meta: _Meta | None = None  # llama.cpp
    max_completion_tokens: int | None = None
    pricing: _Pricing | None = None
    top_provider: _TopProvider | None = None
    supported_parameters: list[str] | None = None


class _Listing(Struct):
    data: list[_Listed]


_decode_listing = msgspec.json.Decoder(_Listing | list[_Listed]).decode


def micro_usd_per_million(usd_per_token: Decimal | None) -> int | None:
    """A price per token as whole micro-USD per million tokens, rounded up. Negative prices ("it depends") are unknown."""
    if usd_per_token is None or not usd_per_token.is_finite() or usd_per_token < 0:
        return None
    return int(usd_per_token.scaleb(12).to_integral_value(ROUND_CEILING))


def _info(vendor: str, listed: _Listed) -> ModelInfo:
    before = known(vendor, listed.id)
    context = (
        listed.context_length
        or listed.max_model_len
        or listed.context_window
        or listed.max_context_length
        or (listed.meta.n_ctx_train if listed.meta else None)
    )
    longest = listed.max_completion_tokens or (
        listed.top_provider.max_completion_tokens if listed.top_provider else None
    )
    tools = "tools" in listed.supported_parameters if listed.supported_parameters is not None else None
    pricing = listed.pricing or _Pricing()
    return ModelInfo(
        id=listed.id,
        context_tokens=context or before.context_tokens,
        max_output_tokens=longest or before.max_output_tokens,
        supports_tools=before.supports_tools if tools is None else tools,
        input_price=micro_usd_per_million(pricing.prompt),
        output_price=micro_usd_per_million(pricing.completion),
        cached_price=micro_usd_per_million(pricing.input_cache_read),
    )


# ---- the provider ----


class OpenAICompatible:
    """One server that speaks OpenAI's wire, with one key."""

    def __init__(
        self,
        vendor: Vendor,
        session: aiohttp.ClientSession,
        *,
        base_url: str,
        api_key: str | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        beat: Beat | None = None,
    ) -> None:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._vendor = vendor
        self._wire = Wire(
            session,
            provider=vendor.name,
            base_url=base_url,
            headers=headers,
            timeouts=timeouts,
            beat=beat,
            secret=api_key,
        )

    @property
    def name(self) -> str:
        return self._vendor.name

    @property
    def kind(self) -> Kind:
        """As the table says, except that an unnamed server on this machine is local."""
        local = self._vendor.local_on_loopback and _is_loopback(self._wire.base_url)
        return "local" if local else self._vendor.kind

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Ask the model. Raises `ModelError`."""
        wire = self._wire
        answer = Answer(wire, request)
        asked = asyncio.get_running_loop().time()
        async with wire.call(
            "POST", "/chat/completions", self._body(request), self._headers(request)
        ) as response:
            if (
                response.content_type == "application/json"
            ):  # a server that does not stream, or an error it calls a success
                answer.feed(await wire.body(response, MAX_EVENT_BYTES))
                for delta in answer.take():
                    yield delta
            else:
                async with contextlib.aclosing(self._deltas(response, answer, asked)) as deltas:
                    async for delta in deltas:
                        yield delta
            await wire.drain(response)
            completed = answer.completed()
        yield completed

    async def _deltas(
        self, response: aiohttp.ClientResponse, answer: Answer, asked: float
    ) -> AsyncGenerator[ModelEvent, None]:
        wire, reader = self._wire, EventReader()
        with wire.incoming(response, asked + wire.timeouts.first_byte, wire.timeouts.first_byte) as incoming:
            while not answer.done:
                try:
                    data = await incoming.read()
                except ModelError:
                    if answer.finished:
                        return  # the answer is whole, only its end is missing
                    raise
                try:
                    events = reader.feed(data) if data else reader.end()
                except TooLong as error:
                    raise wire.failed(f"{wire.provider} sent an event of more than 16 MB.") from error
                was_finished = answer.finished
                for event in events:
                    answer.feed(event)
                for delta in answer.take():
                    yield delta
                if not data:
                    return
                if not answer.finished:
                    if events:  # comments that keep the connection alive do not count
                        incoming.wait(wire.timeouts.idle)
                elif not was_finished:
                    incoming.wait(min(wire.timeouts.idle, _TAIL_SECONDS))

    async def models(self) -> list[ModelInfo]:
        """The models that chat, as the server lists them. Raises `ModelError`."""
        raw = await self._wire.fetch("GET", "/models")
        try:
            listing = _decode_listing(raw)
        except msgspec.MsgspecError as error:
            raise self._wire.failed(
                f"{self.name} sent a list of models that makes no sense: {error}"
            ) from error
        rows: Sequence[_Listed] = listing.data if isinstance(listing, _Listing) else listing
        return [_info(self.name, row) for row in rows if self._vendor.lists(row.id)]

    async def check(self) -> None:
        """Raise `ModelError` unless the key is good, where the listing of models would not tell."""
        if self._vendor.key_check:
            await self._wire.fetch("GET", self._vendor.key_check)

    async def aclose(self) -> None:
        """Nothing to give back: the session belongs to the process."""

    def _headers(self, request: ModelRequest) -> dict[str, str]:
        header = self._vendor.request_id_header
        return {header: request.request_id} if header and request.request_id else {}

    def _body(self, request: ModelRequest) -> bytes:
        completion_field = self._vendor.max_tokens_field == "max_completion_tokens"
        return _encode(
            _Body(
                model=request.model,
                messages=[_sent(message) for message in request.messages],
                stream=True,
                stream_options=_StreamOptions(),
                tools=[_SentSpec(tool) for tool in request.tools] or None,
                temperature=request.temperature if self._vendor.takes_temperature(request.model) else None,
                max_tokens=None if completion_field else request.max_tokens,
                max_completion_tokens=request.max_tokens if completion_field else None,
                **(msgspec.structs.asdict(request.options) if request.options else {}),
            )
        )


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
