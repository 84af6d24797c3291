"""The wire of `/v1/responses`."""

import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Literal
from uuid import UUID

from backend.agent.inference.base import (
    ChatMessage,
    Completed,
    ModelEvent,
    Options,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolSpec,
    Usage,
)
from backend.doors.openai.chat import NO_PARAMETERS
from backend.doors.openai.errors import Refused
from backend.doors.openai.question import Question, text_of, thread_named, thread_perhaps
from backend.doors.openai.schemas import (
    Incomplete,
    InputItem,
    InputTokens,
    OutputDetails,
    Response,
    ResponseError,
    ResponseRequest,
    ResponseStatus,
    ResponseToolChoice,
    ResponseUsage,
    TextFormat,
)
from backend.doors.openai.wire import sse

Item = dict[str, Any]


# What is asked ----------------------------------------------------------------------------------------------------------


def read(given: ResponseRequest, thread_header: UUID | None) -> Question:
    """The question that a request asks. Raises `Refused`."""
    messages = [ChatMessage("user", given.input)] if isinstance(given.input, str) else _messages(given.input)
    leading = 0
    while leading < len(messages) and messages[leading].role == "system":
        leading += 1
    if leading == len(messages):
        raise Refused("Send something to answer besides the instructions.", param="input")
    instructions = [given.instructions or "", *(message.content for message in messages[:leading])]
    return Question(
        model=given.model,
        messages=messages[leading:],
        instructions="\n\n".join(text for text in instructions if text),
        tools=[ToolSpec(tool.name, tool.description or "", tool.parameters or NO_PARAMETERS) for tool in given.tools or ()],
        temperature=given.temperature,
        max_tokens=given.max_output_tokens,
        options=_options(given),
        thread_id=thread_named(thread_header, given.metadata),
        perhaps_thread_id=thread_perhaps(given.user),
        is_whole=given.previous_response_id is None,
    )


def _messages(items: Sequence[InputItem]) -> list[ChatMessage]:
    """Items as messages: a call belongs to the assistant's message before it."""
    messages: list[ChatMessage] = []
    for number, item in enumerate(items):
        at = f"input.{number}"
        match item.type:
            case "message" if item.role is not None:
                role = "system" if item.role == "developer" else item.role
                messages.append(ChatMessage(role, text_of(item.content, f"{at}.content")))
            case "function_call" if item.call_id and item.name:
                call = ToolCall(item.call_id, item.name, item.arguments or "{}")
                before = messages.pop() if messages and messages[-1].role == "assistant" else ChatMessage("assistant")
                messages.append(ChatMessage("assistant", before.content, (*before.tool_calls, call)))
            case "function_call_output" if item.call_id:
                messages.append(ChatMessage("tool", text_of(item.output, f"{at}.output"), tool_call_id=item.call_id))
            case "reasoning":
                continue  # a model is not sent its old thoughts
            case "message" | "function_call" | "function_call_output":
                raise Refused(f"This {item.type} lacks its role, call_id or name.", param=at)
            case _:
                raise Refused(f"An item of the type {item.type} cannot be read here yet.", param=f"{at}.type", code="unsupported_content")
    return messages


def _options(given: ResponseRequest) -> Options:
    choice: str | dict[str, Any] | None
    if isinstance(given.tool_choice, ResponseToolChoice):
        choice = {"type": "function", "function": {"name": given.tool_choice.name}}
    else:
        choice = given.tool_choice
    return Options(
        top_p=given.top_p,
        tool_choice=choice if given.tools else None,
        parallel_tool_calls=given.parallel_tool_calls if given.tools else None,
        response_format=_format(given.text.format if given.text else None),
        reasoning_effort=given.reasoning.effort if given.reasoning else None,
    )


def _format(wanted: TextFormat | None) -> dict[str, Any] | None:
    """The form of the answer as the other wire says it."""
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "json_object"}
    schema = {"name": wanted.name or "answer", "schema": wanted.json_schema or {}, "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": {name: value for name, value in schema.items() if value is not None}}


# What is answered -------------------------------------------------------------------------------------------------------


def frame(given: ResponseRequest, id: str, thread_id: UUID | None) -> Response:
    """The response before the first word."""
    return Response(
        id=id,
        created_at=int(time.time()),
        status="in_progress",
        instructions=given.instructions,
        model=given.model,
        output=[],
        parallel_tool_calls=given.parallel_tool_calls is not False,
        previous_response_id=given.previous_response_id,
        temperature=given.temperature,
        top_p=given.top_p,
        tool_choice=given.tool_choice.model_dump() if isinstance(given.tool_choice, ResponseToolChoice) else given.tool_choice or "auto",
        tools=[tool.model_dump() | {"strict": False} for tool in given.tools or ()],
        max_output_tokens=given.max_output_tokens,
        metadata=(given.metadata or {}) | ({"thread_id": str(thread_id)} if thread_id else {}),
    )


def finished(response: Response, answer: Completed) -> Response:
    """The response with a whole answer."""
    output: list[Item] = []
    if answer.reasoning:
        output.append(_reasoning(response.id, len(output), answer.reasoning))
    if answer.content or not answer.tool_calls:
        output.append(message_item(response.id, len(output), answer.content))
    for call in answer.tool_calls:
        output.append(_call(response.id, len(output), call.id, call.name, call.arguments))
    return _ended(response, answer, output)


def failed(response: Response, error: dict[str, Any], output: list[Item]) -> Response:
    """The response that was broken off, with the words so far."""
    kind = error["error"]["type"]
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"] = "server_error"
    if kind != "server_error":
        code = "rate_limit_exceeded" if kind == "rate_limit_error" else "invalid_prompt"
    told = ResponseError(code=code, message=error["error"]["message"])
    return response.model_copy(update={"status": "failed", "error": told, "output": output})


def _ended(response: Response, answer: Completed, output: list[Item]) -> Response:
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(answer.stop_reason)
    status: ResponseStatus = "incomplete" if reason else "completed"
    details = Incomplete.model_validate({"reason": reason}) if reason else None
    return response.model_copy(update={"status": status, "incomplete_details": details, "output": output, "usage": usage(answer.usage)})


def usage(used: Usage) -> ResponseUsage:
    """Tokens as this wire says them."""
    return ResponseUsage(
        input_tokens=used.input_tokens,
        input_tokens_details=InputTokens(cached_tokens=used.cached_tokens),
        output_tokens=used.output_tokens,
        output_tokens_details=OutputDetails(reasoning_tokens=used.reasoning_tokens),
        total_tokens=used.input_tokens + used.output_tokens,
    )


def message_item(response_id: str, index: int, text: str | None) -> Item:
    """The assistant's message; without a text one that has only begun."""
    parts = [] if text is None else [_text_part(text)]
    return {"id": _id("msg", response_id, index), "type": "message", "role": "assistant", "status": _status(text), "content": parts}


def _reasoning(response_id: str, index: int, text: str | None) -> Item:
    parts = [] if text is None else [{"type": "reasoning_text", "text": text}]
    return {"id": _id("rs", response_id, index), "type": "reasoning", "summary": [], "status": _status(text), "content": parts}


def _call(response_id: str, index: int, call_id: str, name: str, arguments: str | None) -> Item:
    item = {"id": _id("fc", response_id, index), "type": "function_call", "call_id": call_id, "name": name}
    return item | {"arguments": arguments or "", "status": _status(arguments)}


def _id(kind: str, response_id: str, index: int) -> str:
    return f"{kind}_{response_id.removeprefix('resp_')}_{index}"


def _status(text: str | None) -> str:
    return "in_progress" if text is None else "completed"


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class _Open:
    """An item that is being written."""

    def __init__(self, index: int, item: Item) -> None:
        self.index = index
        self.item = item
        self.pieces: list[str] = []

    @property
    def place(self) -> dict[str, Any]:
        return {"item_id": self.item["id"], "output_index": self.index}


class ResponseStream:
    """An answer as events. A text ends where something else begins; calls end with the answer, for they may come side by side."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._number = 0
        self._output: list[Item] = []
        self._text: _Open | None = None
        self._calls: dict[int, _Open] = {}

    def opening(self) -> Iterator[bytes]:
        """Before the first word."""
        yield self._event("response.created", response=self._response.model_dump())
        yield self._event("response.in_progress", response=self._response.model_dump())

    def event(self, event: ModelEvent) -> Iterator[bytes]:
        """What a client is told of one event."""
        match event:
            case TextDelta():
                yield from self._say("message", event.text)
            case ReasoningDelta():
                yield from self._say("reasoning", event.text)
            case ToolCallDelta():
                yield from self._call_piece(event)
            case Completed():
                yield from self._close_all()
                ended = _ended(self._response, event, self._output)
                yield self._event(f"response.{ended.status}", response=ended.model_dump())

    def failed(self, error: dict[str, Any]) -> Iterator[bytes]:
        """An answer that was broken off."""
        yield from self._close_all()
        yield self._event("response.failed", response=failed(self._response, error, self._output).model_dump())

    def _say(self, kind: str, text: str) -> Iterator[bytes]:
        if self._text is None or self._text.item["type"] != kind:
            yield from self._close_text()
            make = message_item if kind == "message" else _reasoning
            self._text = yield from self._begin(make(self._response.id, len(self._output), None))
            yield self._event("response.content_part.added", **self._text.place, content_index=0, part=_part(kind, ""))
        self._text.pieces.append(text)
        more: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
        yield self._event(f"{_EVENTS[kind]}.delta", **self._text.place, content_index=0, delta=text, **more)

    def _call_piece(self, delta: ToolCallDelta) -> Iterator[bytes]:
        yield from self._close_text()
        call = self._calls.get(delta.index)
        if call is None:
            item = _call(self._response.id, len(self._output), delta.id, delta.name, None)
            call = self._calls[delta.index] = yield from self._begin(item)
        call.pieces.append(delta.arguments)
        if delta.arguments:
            yield self._event("response.function_call_arguments.delta", **call.place, delta=delta.arguments)

    def _begin(self, item: Item) -> Generator[bytes, None, _Open]:
        opened = _Open(len(self._output), item)
        self._output.append(item)
        yield self._event("response.output_item.added", output_index=opened.index, item=item)
        return opened

    def _close_all(self) -> Iterator[bytes]:
        yield from self._close_text()
        for call in self._calls.values():
            arguments = "".join(call.pieces)
            yield self._event("response.function_call_arguments.done", **call.place, name=call.item["name"], arguments=arguments)
            yield from self._end(call, call.item | {"arguments": arguments, "status": "completed"})
        self._calls.clear()

    def _close_text(self) -> Iterator[bytes]:
        if (opened := self._text) is None:
            return
        self._text, kind, text = None, opened.item["type"], "".join(opened.pieces)
        more: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
        yield self._event(f"{_EVENTS[kind]}.done", **opened.place, content_index=0, text=text, **more)
        part = _part(kind, text)
        yield self._event("response.content_part.done", **opened.place, content_index=0, part=part)
        yield from self._end(opened, opened.item | {"content": [part], "status": "completed"})

    def _end(self, opened: _Open, item: Item) -> Iterator[bytes]:
        self._output[opened.index] = item
        yield self._event("response.output_item.done", output_index=opened.index, item=item)

    def _event(self, type: str, **members: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return sse({"type": type, "sequence_number": number} | members, type)


_EVENTS = {"message": "response.output_text", "reasoning": "response.reasoning_text"}


def _part(kind: str, text: str) -> dict[str, Any]:
    return _text_part(text) if kind == "message" else {"type": "reasoning_text", "text": text}
