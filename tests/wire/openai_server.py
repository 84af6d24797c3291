"""OpenAI's `/chat/completions` and `/models` as strict as the vendor's, playing what a test asks for."""

import json
import re
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tests.wire.server import Refused, Reply, WireServer

KEY = "sk-test-1234567890"
MODELS = ("gpt-4o", "o3-mini")

_PARAMETERS = {
    "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "stream", "stream_options", "temperature", "top_p",
    "max_tokens", "max_completion_tokens", "stop", "n", "seed", "response_format", "user", "reasoning_effort",
}  # fmt: skip
_KEYS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls"},
    "tool": {"role", "content", "tool_call_id"},
}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def chunk(delta: dict[str, Any] | None = None, *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of a stream, with everything the vendor puts into it."""
    choices = (
        [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    )
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1790000000,
        "model": "gpt-4o-2024-08-06",
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        "choices": choices,
        "usage": None,
    } | more


def usage(input_tokens: int, output_tokens: int, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
    }


def events(*chunks: dict[str, Any] | str, done: bool = True) -> bytes:
    """Chunks as server-sent events."""
    lines = [f"data: {one if isinstance(one, str) else json.dumps(one)}\n\n" for one in chunks]
    return "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()


def answer(*words: str, told: dict[str, Any] | None = None, finish: str = "stop") -> list[dict[str, Any]]:
    """The chunks of a plain answer; `told` is its usage."""
    chunks = [chunk({"role": "assistant", "content": "", "refusal": None})]
    chunks += [chunk({"content": word}) for word in words]
    chunks.append(chunk({}, finish=finish))
    return chunks if told is None else [*chunks, chunk(usage=told)]


def streamed(*chunks: dict[str, Any]) -> Reply:
    """A whole stream, sent at once."""
    return Reply([events(*chunks)])


class OpenAIServer(WireServer):
    """`key` None accepts anybody; `context_chars` bounds the messages. Without a reply to play it answers "Hello!"."""

    def __init__(
        self, *, key: str | None = KEY, models: Sequence[str] = MODELS, context_chars: int = 1_000_000
    ) -> None:
        super().__init__()
        self.key = key
        self.models = models
        self.context_chars = context_chars
        self.listing: Any = {"object": "list", "data": [{"id": name, "object": "model"} for name in models]}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/chat/completions", self._complete),
            web.get("/v1/models", self._list),
            web.get("/v1/key", self._check),
        ]

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            self._authorize(request)
            body = await self._body(request)
            check(body, self.models, self.context_chars)
        except Refused as error:
            return await self.respond(request, error.reply)
        self.sent.append(body)
        self.headers.append(dict(request.headers))
        told = usage(8, 2) if body.get("stream_options", {}).get("include_usage") else None
        reply = self.replies.popleft() if self.replies else streamed(*answer("Hel", "lo!", told=told))
        return await self.respond(request, reply)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        try:
            self._authorize(request)
        except Refused as error:
            return await self.respond(request, error.reply)
        return await self.respond(
            request, Reply([json.dumps(self.listing).encode()], content_type="application/json")
        )

    async def _check(self, request: web.Request) -> web.StreamResponse:
        return await self._list(request)

    async def _body(self, request: web.Request) -> dict[str, Any]:
        if request.content_type != "application/json":
            raise _bad("you must provide a JSON body")
        try:
            body = await request.json()
        except ValueError:
            raise _bad("We could not parse the JSON body of your request.") from None
        _need(isinstance(body, dict), "the body must be an object")
        return dict(body)

    def _authorize(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "")
        if self.key is not None and given != f"Bearer {self.key}":
            message = f"Incorrect API key provided: {given.removeprefix('Bearer ')}."
            raise Refused(
                401,
                {"error": {"message": message, "type": "invalid_request_error", "code": "invalid_api_key"}},
            )


def check(body: dict[str, Any], models: Sequence[str], context_chars: int) -> None:
    """Raise `Refused` as the vendor does."""
    if unknown := body.keys() - _PARAMETERS:
        raise _bad(f"Unknown parameter: '{sorted(unknown)[0]}'.", "unknown_parameter")
    model = body.get("model")
    _need(isinstance(model, str), "you must provide a model parameter")
    if model not in models:
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise Refused(
            404, {"error": {"message": message, "type": "invalid_request_error", "code": "model_not_found"}}
        )
    _check_options(body, str(model))
    _check_messages(body.get("messages"))
    if "tools" in body:
        _check_tools(body["tools"])
    if len(json.dumps(body["messages"])) > context_chars:
        message = (
            "This model's maximum context length is 128000 tokens. Please reduce the length of the messages."
        )
        raise _bad(message, "context_length_exceeded")


def _check_options(body: dict[str, Any], model: str) -> None:
    _need(
        "stream_options" not in body or body.get("stream") is True,
        "'stream_options' is only allowed when 'stream' is enabled",
    )
    _need(
        set(body.get("stream_options", {})) <= {"include_usage", "include_obfuscation"},
        "unknown stream option",
    )
    temperature = body.get("temperature", 1)
    _need(type(temperature) in (int, float) and 0 <= temperature <= 2, "temperature must be from 0 to 2")
    for name in ("max_tokens", "max_completion_tokens"):
        _need(type(body.get(name, 1)) is int and body.get(name, 1) >= 1, f"{name} must be at least 1")
    if model.startswith("o"):
        _need(
            "max_tokens" not in body,
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
        )
        _need(
            "temperature" not in body,
            "Unsupported parameter: 'temperature' is not supported with this model.",
        )


def _check_messages(messages: Any) -> None:
    _need(isinstance(messages, list) and bool(messages), "[] is too short - 'messages'")
    waiting: list[str] = []
    for number, message in enumerate(messages):
        at = f"messages[{number}]"
        role = message.get("role")
        _need(role in _KEYS, f"{at}.role is invalid")
        _need(message.keys() <= _KEYS[role], f"{at} has an unknown parameter")
        if role == "tool":
            _need(
                message.get("tool_call_id") in waiting,
                "messages with role 'tool' must be a response to a preceding 'tool_calls'",
            )
            waiting.remove(message["tool_call_id"])
        else:
            _need(
                not waiting,
                f"An assistant message with 'tool_calls' must be followed by tool messages: {waiting}",
            )
        if role == "assistant" and "tool_calls" in message:
            waiting = _check_calls(message["tool_calls"], at)
            _need(
                message.get("content") is None or isinstance(message["content"], str),
                f"{at}.content is invalid",
            )
        else:
            _need(
                isinstance(message.get("content"), str),
                f"Invalid value for 'content' at {at}: expected a string",
            )
    _need(not waiting, f"An assistant message with 'tool_calls' must be followed by tool messages: {waiting}")


def _check_calls(calls: Any, at: str) -> list[str]:
    _need(isinstance(calls, list) and bool(calls), f"{at}.tool_calls is too short")
    for call in calls:
        _need(
            call.keys() == {"id", "type", "function"} and call["type"] == "function",
            f"{at}.tool_calls is invalid",
        )
        _need(
            isinstance(call["id"], str) and 0 < len(call["id"]) <= 40,
            f"{at}.tool_calls.id: at most 40 characters",
        )
        function = call["function"]
        _need(function.keys() == {"name", "arguments"}, f"{at}.tool_calls.function is invalid")
        _need(bool(_NAME.fullmatch(function["name"])), f"{at}.tool_calls.function.name does not match")
        _need(isinstance(function["arguments"], str), f"{at}.tool_calls.function.arguments must be a string")
    ids = [call["id"] for call in calls]
    _need(len(set(ids)) == len(ids), f"{at}.tool_calls: duplicate id")
    return ids


def _check_tools(tools: Any) -> None:
    _need(isinstance(tools, list) and bool(tools), "[] is too short - 'tools'")
    for tool in tools:
        _need(tool.keys() == {"type", "function"} and tool["type"] == "function", "tools: invalid")
        function = tool["function"]
        _need(
            function.keys() <= {"name", "description", "parameters", "strict"},
            "tools.function: unknown parameter",
        )
        _need(bool(_NAME.fullmatch(function.get("name", ""))), "tools.function.name does not match")
        _need(
            function.get("parameters", {}).get("type") == "object",
            "schema must be a JSON Schema of 'type: \"object\"'",
        )
    names = [tool["function"]["name"] for tool in tools]
    _need(len(set(names)) == len(names), "tools: duplicate function name")


def _need(holds: bool, message: str) -> None:
    if not holds:
        raise _bad(message)


def _bad(message: str, code: str | None = None) -> Refused:
    return Refused(
        400, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    )
