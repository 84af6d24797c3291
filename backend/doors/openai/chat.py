"""The wire of `/v1/chat/completions`."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from backend.agent.inference.base import (
    ChatMessage,
    Completed,
    ModelEvent,
    Options,
    ReasoningDelta,
    StopReason,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolSpec,
    Usage,
)
from backend.doors.openai.errors import Refused
from backend.doors.openai.question import Question, text_of, thread_named, thread_perhaps
from backend.doors.openai.schemas import (
    CalledFunction,
    ChatAnswer,
    ChatCall,
    ChatChoice,
    ChatCompletion,
    ChatRequest,
    ChatToolChoice,
    ChatUsage,
    FinishReason,
    InputDetails,
    OutputDetails,
    SentMessage,
)
from backend.doors.openai.wire import sse

FINISH: dict[StopReason, FinishReason] = {
    "stop": "stop",
    "tool_calls": "tool_calls",
    "length": "length",
    "content_filter": "content_filter",
    "other": "stop",
}
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


# What is asked ----------------------------------------------------------------------------------------------------------


def read(given: ChatRequest, thread_header: UUID | None) -> Question:
    """The question that a request asks. Raises `Refused`."""
    system: list[str] = []
    messages: list[ChatMessage] = []
    for number, message in enumerate(given.messages):
        at = f"messages.{number}"
        text = text_of(message.content, f"{at}.content")
        if message.role in ("system", "developer") and not messages:
            system.append(text)
        else:
            messages.append(_message(message, text, at))
    if not messages:
        raise Refused("Send a message besides the instructions.", param="messages")
    return Question(
        model=given.model,
        messages=messages,
        instructions="\n\n".join(text for text in system if text),
        tools=[
            ToolSpec(tool.function.name, tool.function.description or "", tool.function.parameters or NO_PARAMETERS)
            for tool in given.tools or ()
        ],
        temperature=given.temperature,
        max_tokens=given.max_completion_tokens or given.max_tokens,
        options=_options(given),
        thread_id=thread_named(thread_header, given.metadata),
        perhaps_thread_id=thread_perhaps(given.user),
    )


def _message(message: SentMessage, text: str, at: str) -> ChatMessage:
    match message.role:
        case "system" | "developer":
            return ChatMessage("system", text)
        case "user":
            return ChatMessage("user", text)
        case "assistant":
            calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ())
            return ChatMessage("assistant", text or message.refusal or "", calls)
        case "tool":
            if not message.tool_call_id:
                raise Refused("A tool's result names the call it answers.", param=f"{at}.tool_call_id")
            return ChatMessage("tool", text, tool_call_id=message.tool_call_id)


def _options(given: ChatRequest) -> Options:
    stop = (given.stop,) if isinstance(given.stop, str) else tuple(given.stop or ())
    choice = given.tool_choice.model_dump() if isinstance(given.tool_choice, ChatToolChoice) else given.tool_choice
    form = given.response_format
    return Options(
        stop=stop,
        top_p=given.top_p,
        seed=given.seed,
        frequency_penalty=given.frequency_penalty or None,
        presence_penalty=given.presence_penalty or None,
        tool_choice=choice if given.tools else None,
        parallel_tool_calls=given.parallel_tool_calls if given.tools else None,
        response_format=form.model_dump(exclude_none=True) if form and form.type != "text" else None,
        reasoning_effort=given.reasoning_effort,
    )


# What is answered -------------------------------------------------------------------------------------------------------


def completion(id: str, model: str, answer: Completed) -> dict[str, Any]:
    """A whole answer: a `ChatCompletion`, without the members that OpenAI leaves out when they are empty."""
    calls = [ChatCall(id=call.id, function=CalledFunction.model_construct(name=call.name, arguments=call.arguments)) for call in answer.tool_calls]
    content = None if calls and not answer.content else answer.content
    message = ChatAnswer(content=content, reasoning_content=answer.reasoning or None, tool_calls=calls or None)
    choice = ChatChoice(message=message, finish_reason=FINISH[answer.stop_reason])
    body = ChatCompletion(id=id, created=int(time.time()), model=model, choices=[choice], usage=_usage(answer.usage)).model_dump()
    said = body["choices"][0]["message"]
    for name in ("reasoning_content", "tool_calls"):
        if said[name] is None:
            del said[name]
    return body


class ChatStream:
    """An answer as chunks."""

    def __init__(self, id: str, model: str, *, include_usage: bool) -> None:
        self._frame = {"id": id, "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
        self._include_usage = include_usage
        self._calls: set[int] = set()

    def opening(self) -> Iterator[bytes]:
        """Before the first word."""
        yield self._chunk({"role": "assistant", "content": ""})

    def event(self, event: ModelEvent) -> Iterator[bytes]:
        """What a client is told of one event."""
        match event:
            case TextDelta():
                yield self._chunk({"content": event.text})
            case ReasoningDelta():
                yield self._chunk({"reasoning_content": event.text})
            case ToolCallDelta():
                yield self._chunk({"tool_calls": [self._call(event)]})
            case Completed():
                yield self._chunk({}, FINISH[event.stop_reason])
                if self._include_usage:
                    yield sse(self._frame | {"choices": [], "usage": _usage(event.usage).model_dump()})
                yield b"data: [DONE]\n\n"

    def failed(self, error: dict[str, Any]) -> Iterator[bytes]:
        """An answer that was broken off."""
        yield sse(error)

    def _call(self, delta: ToolCallDelta) -> dict[str, Any]:
        function: dict[str, Any] = {"arguments": delta.arguments}
        if delta.index in self._calls:
            return {"index": delta.index, "function": function}
        self._calls.add(delta.index)
        return {"index": delta.index, "id": delta.id, "type": "function", "function": {"name": delta.name} | function}

    def _chunk(self, delta: dict[str, Any], finish: FinishReason | None = None) -> bytes:
        chunk = self._frame | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        return sse(chunk | {"usage": None} if self._include_usage else chunk)


def _usage(usage: Usage) -> ChatUsage:
    return ChatUsage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        prompt_tokens_details=InputDetails(cached_tokens=usage.cached_tokens),
        completion_tokens_details=OutputDetails(reasoning_tokens=usage.reasoning_tokens),
    )
