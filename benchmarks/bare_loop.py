"""The bare loop: FastAPI + httpx, nothing stored; the least anybody writes by hand for the same work.

A message over HTTP, the model called with streaming, tool rounds run, each token streamed back as an event.
Started as `python -m benchmarks.bare_loop --port N --model-url URL`.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

MOST_ROUNDS = 8
SYSTEM = {"role": "system", "content": "You are a helpful agent."}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "list_files",
            "description": "Lists files.",
            "parameters": {"type": "object", "properties": {}},
        },
    }
]


class Asked(BaseModel):
    """One message of a person."""

    model: str
    content: str


def event(type: str, **fields: str) -> str:
    """One server-sent event."""
    return f"data: {json.dumps({'type': type, **fields}, separators=(',', ':'))}\n\n"


def loop_app(model_url: str) -> FastAPI:
    """The app; conversations live in its memory alone."""
    threads: defaultdict[str, list[dict[str, Any]]] = defaultdict(lambda: [SYSTEM])

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        async with httpx.AsyncClient(base_url=model_url, limits=limits, timeout=120) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)

    async def call(model: str, messages: list[dict[str, Any]], answer: dict[str, Any]) -> AsyncIterator[str]:
        """Streams one model call; what it says is gathered in `answer`."""
        body = {"model": model, "messages": messages, "tools": TOOLS, "stream": True}
        async with app.state.client.stream("POST", "/chat/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                for choice in json.loads(line[6:])["choices"]:
                    if text := choice["delta"].get("content"):
                        answer["content"] += text
                        yield text
                    for part in choice["delta"].get("tool_calls", ()):
                        if "id" in part:
                            answer["tool_calls"].append(part)
                        else:
                            answer["tool_calls"][-1]["function"]["arguments"] += part["function"]["arguments"]

    async def turn(thread: str, asked: Asked) -> AsyncIterator[str]:
        messages = threads[thread]
        messages.append({"role": "user", "content": asked.content})
        for _ in range(MOST_ROUNDS):
            answer: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": []}
            async for text in call(asked.model, messages, answer):
                yield event("delta", text=text)
            calls = answer["tool_calls"]
            messages.append(answer if calls else {"role": "assistant", "content": answer["content"]})
            if not calls:
                break
            messages += [{"role": "tool", "tool_call_id": call["id"], "content": "[]"} for call in calls]
        yield event("end")

    @app.post("/threads/{thread}/turns")
    async def start(thread: str, asked: Asked) -> StreamingResponse:
        return StreamingResponse(turn(thread, asked), media_type="text/event-stream")

    @app.get("/health/ready")
    async def ready() -> dict[str, bool]:
        return {"ok": True}

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model-url", required=True)
    options = parser.parse_args()
    uvicorn.run(loop_app(options.model_url), port=options.port, log_level="warning", access_log=False)
