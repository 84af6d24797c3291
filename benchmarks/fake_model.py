"""A cheap OpenAI-compatible streaming server: `python -m benchmarks.fake_model --port N`.

One asyncio.Protocol per connection and frames made once: it must never be what a benchmark waits for.
The model's name is the plan (see plan.py). Tool rounds are counted from the messages, so the server keeps no state.
"""

import argparse
import asyncio
import json
from functools import cache
from typing import cast

import msgspec
import uvloop

from benchmarks.plan import Plan

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Message(msgspec.Struct):
    """Of a message only who speaks matters here."""

    role: str


class Completion(msgspec.Struct):
    """The part of a chat completion request that decides the answer."""

    model: str
    messages: list[Message]


def framed(data: bytes) -> bytes:
    """One server-sent event in an HTTP chunk of its own, as vendors send them."""
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def delta(delta: dict[str, object], finish: str | None = None) -> bytes:
    """One framed chunk of a streamed completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "fake",
        "choices": [choice],
    }
    return framed(json.dumps(chunk, separators=(",", ":")).encode())


@cache
def token_frame(token: int) -> bytes:
    """The framed chunk of a token; the first also says who speaks."""
    content: dict[str, object] = {"content": f"{token:04d} "}
    return delta(content if token else {"role": "assistant", **content})


@cache
def whole(plan: Plan) -> bytes:
    """Every framed chunk of an answer that is said at once."""
    frames = [token_frame(token) for token in range(plan.tokens) if token != plan.dropped]
    return b"".join([*frames, end(plan.tokens)])


def end(tokens: int, finish: str = "stop") -> bytes:
    """How an answer ends: the reason, the usage, the end marker, the last HTTP chunk."""
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
    tail = {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "fake",
        "choices": [],
        "usage": usage,
    }
    return delta({}, finish) + framed(json.dumps(tail).encode()) + framed(b"[DONE]") + b"0\r\n\r\n"


class FakeModel(asyncio.Protocol):
    """One connection of a client that asks for completions, one after the other."""

    def __init__(self, tool: str, arguments: str) -> None:
        self._tool, self._arguments = tool, arguments
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Stop talking to nobody."""
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = content_length(head)
        if len(body) >= length:
            self._received = body[length:]
            self._answer(head, body[:length])

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET") and b"/models " in head:
            models = [{"id": Plan().name, "object": "model", "created": 0, "owned_by": "benchmarks"}]
            return self._send_json(200, {"object": "list", "data": models})
        try:
            asked = msgspec.json.decode(body, type=Completion)
            plan = Plan.parse(asked.model)
        except (msgspec.DecodeError, ValueError) as error:
            return self._send_json(400, {"error": {"message": str(error), "type": "invalid_request_error"}})
        done = rounds_done(asked.messages)
        if done < plan.rounds:
            self._transport.write(STREAM_HEAD + self._tool_call(done))
        else:
            self._begin(plan)

    def _send_json(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)

    def _tool_call(self, done: int) -> bytes:
        function: dict[str, object] = {"name": self._tool, "arguments": ""}
        call = {"index": 0, "id": f"call_{done}", "type": "function", "function": function}
        arguments = {"index": 0, "function": {"arguments": self._arguments}}
        begin = delta({"role": "assistant", "content": None, "tool_calls": [call]})
        return begin + delta({"tool_calls": [arguments]}) + end(1, "tool_calls")

    def _begin(self, plan: Plan) -> None:
        if not plan.delay_ms and not plan.per_second:
            return self._transport.write(STREAM_HEAD + whole(plan))
        self._transport.write(STREAM_HEAD)
        asked = self._loop.time()
        self._timer = self._loop.call_at(asked + plan.due(0), self._say, asked, plan, 0)

    def _say(self, asked: float, plan: Plan, token: int) -> None:
        """Write `token`, then wait for the next one's moment; a late timer does not move the schedule."""
        if not plan.per_second:
            return self._transport.write(whole(plan))
        if token != plan.dropped:
            self._transport.write(token_frame(token))
        token += 1
        if token < plan.tokens:
            self._timer = self._loop.call_at(asked + plan.due(token), self._say, asked, plan, token)
        else:
            self._transport.write(end(plan.tokens))


def content_length(head: bytes) -> int:
    """Bytes of the body a request's head announces."""
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def rounds_done(messages: list[Message]) -> int:
    """Tool results since the user last spoke."""
    count = 0
    for message in reversed(messages):
        if message.role == "user":
            break
        count += message.role == "tool"
    return count


async def serve(port: int, tool: str, arguments: str) -> None:
    """Serve on 127.0.0.1 until ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FakeModel(tool, arguments), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tool", default="list_files", help="the tool that rounds call")
    parser.add_argument("--arguments", default="{}", help="JSON of the call's arguments")
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.tool, options.arguments))
