"""Ollama's own endpoints, strict about what they are sent, playing what a test asks for."""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tests.wire.server import Refused, Reply, WireServer

_PARAMETERS = {
    "model",
    "messages",
    "tools",
    "stream",
    "options",
    "truncate",
    "shift",
    "format",
    "keep_alive",
    "think",
}
_OPTIONS = {"num_ctx", "num_predict", "temperature", "top_p", "top_k", "seed", "stop", "frequency_penalty", "presence_penalty"}
_KEYS = {"role", "content", "thinking", "images", "tool_calls", "tool_name"}

MODELS: dict[str, dict[str, Any]] = {
    "llama3.2:3b": {
        "model_info": {"general.architecture": "llama", "llama.context_length": 131072},
        "capabilities": ["completion", "tools"],
    },
    "tiny:latest": {"model_info": {"gemma.context_length": 2048}, "capabilities": ["completion"]},
    "nomic-embed-text:latest": {"model_info": {"bert.context_length": 2048}, "capabilities": ["embedding"]},
}


def line(message: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """One line of a stream."""
    head = {"model": "llama3.2:3b", "created_at": "2026-11-22T10:00:00Z"}
    return head | {"message": {"role": "assistant", "content": ""} | (message or {}), "done": False} | more


def last(reason: str = "stop", **more: Any) -> dict[str, Any]:
    """The last line, with its counts."""
    counts = {"total_duration": 1, "prompt_eval_count": 26, "eval_count": 7}
    return line(done=True, done_reason=reason) | counts | more


def lines(*all: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in all)


def streamed(*all: dict[str, Any]) -> Reply:
    """A whole stream, sent at once."""
    return Reply([lines(*all)], content_type="application/x-ndjson")


class OllamaServer(WireServer):
    """Without a reply to play it answers "Hello!"."""

    def __init__(self, models: Mapping[str, Mapping[str, Any]] = MODELS) -> None:
        super().__init__()
        self.models = models

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/chat", self._chat),
            web.get("/api/tags", self._tags),
            web.post("/api/show", self._show),
            web.get("/api/version", self._version),
        ]

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.text())
        try:
            check(body, self.models)
        except Refused as error:
            return await self.respond(request, error.reply)
        self.sent.append(body)
        hello = streamed(line({"content": "Hel"}), line({"content": "lo!"}), last())
        return await self.respond(request, self.replies.popleft() if self.replies else hello)

    async def _tags(self, request: web.Request) -> web.StreamResponse:
        rows = [{"name": name, "model": name, "digest": f"sha-{name}", "size": 1} for name in self.models]
        return web.json_response({"models": rows})

    async def _show(self, request: web.Request) -> web.StreamResponse:
        name = (await request.json()).get("model")
        if name not in self.models:
            return web.json_response({"error": f"model '{name}' not found"}, status=404)
        return web.json_response(dict(self.models[name]))

    async def _version(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"version": "0.13.0"})


def check(body: dict[str, Any], models: Mapping[str, Any]) -> None:
    """Raise `Refused` for what a client should not send. Stricter than Ollama, which skips what it does not know."""
    _need(body.keys() <= _PARAMETERS, f"unknown: {sorted(body.keys() - _PARAMETERS)}")
    if body.get("model") not in models:
        raise Refused(404, {"error": f"model '{body.get('model')}' not found"})
    _need(body.get("options", {}).keys() <= _OPTIONS, "unknown option")
    for message in body["messages"]:
        _need(message.keys() <= _KEYS, f"unknown in a message: {sorted(message.keys() - _KEYS)}")
        _need(message["role"] in ("system", "user", "assistant", "tool"), "invalid role")
        _need(isinstance(message["content"], str), "content must be a string")
        for call in message.get("tool_calls", ()):
            _need(isinstance(call["function"]["arguments"], dict), "arguments must be an object")
        _need(message["role"] != "tool" or bool(message.get("tool_name")), "a result must name its tool")
    for tool in body.get("tools", ()):
        _need(
            tool["type"] == "function" and tool["function"]["parameters"]["type"] == "object", "invalid tool"
        )


def _need(holds: bool, message: str) -> None:
    if not holds:
        raise Refused(400, {"error": message})
