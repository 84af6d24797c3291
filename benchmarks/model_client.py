"""`python -m benchmarks.model_client`: what a model call costs this process, in CPU.

The other side is a child process that sends canned bytes, so its work is not counted. Two shapes: `burst` sends a whole answer in
one piece, `one by one` each chunk in a network read of its own. The cost of a call is that of an answer of one chunk; the cost of a
chunk is what each chunk beyond that adds.
"""

import argparse
import asyncio
import multiprocessing
import multiprocessing.connection
import statistics
import time
from collections.abc import Callable
from typing import Literal

import msgspec
import uvloop

from backend.agent.inference.base import ChatMessage, Completed, ModelRequest, Provider
from backend.agent.inference.catalogue import BY_NAME
from backend.agent.inference.providers.http import open_session
from backend.agent.inference.providers.ollama import Ollama
from backend.agent.inference.providers.openai import OpenAICompatible

Shape = Literal["burst", "one by one"]
_WINDOWS = 5
_GAP_SECONDS = 0.001


def openai_chunks(count: int) -> list[bytes]:
    """An answer of `count` words, a usage chunk and the end."""
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "system_fingerprint": "fp",
    }

    def event(choices: list[object], **more: object) -> bytes:
        return b"data: " + msgspec.json.encode({**head, "choices": choices, **more}) + b"\n\n"

    words = [
        event([{"index": 0, "delta": {"content": f"word{n} "}, "finish_reason": None}]) for n in range(count)
    ]
    end = event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    usage = event([], usage={"prompt_tokens": 10, "completion_tokens": count})
    return [*words, end + usage + b"data: [DONE]\n\n"]


def ollama_chunks(count: int) -> list[bytes]:
    """The same on Ollama's wire."""
    head = {"model": "m", "created_at": "2026-11-22T10:00:00Z"}
    lines = [
        {**head, "message": {"role": "assistant", "content": f"word{n} "}, "done": False}
        for n in range(count)
    ]
    end = {
        **head,
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "prompt_eval_count": 10,
        "eval_count": count,
    }
    return [msgspec.json.encode(line) + b"\n" for line in [*lines, end]]


_CHUNKS: dict[str, Callable[[int], list[bytes]]] = {"openai": openai_chunks, "ollama": ollama_chunks}


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one connection's requests; the model's name says `<wire>-<count>-<shape>`."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
            wire, count, shape = msgspec.json.decode(await reader.readexactly(length))["model"].split("-")
            chunks = _CHUNKS[wire](int(count))
            size = sum(map(len, chunks))
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % size
            )
            for chunk in chunks if shape == "one by one" else [b"".join(chunks)]:
                writer.write(chunk)
                await writer.drain()
                if shape == "one by one":
                    await asyncio.sleep(_GAP_SECONDS)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def serve(pipe: multiprocessing.connection.Connection) -> None:
    """The child: tells its port, and ends with its parent."""

    async def run() -> None:
        server = await asyncio.start_server(_answer, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


async def cpu_ms(provider: Provider, model: str, words: int, calls: int) -> float:
    """CPU milliseconds of one call, the median of some windows; each answer is checked."""
    request = ModelRequest(model, [ChatMessage(role="user", content="Hello")])
    windows = []
    for _ in range(_WINDOWS):
        began = time.process_time()
        for _ in range(calls):
            async for event in provider.stream(request):
                last = event
            if not isinstance(last, Completed) or last.content.count("word") != words:
                raise SystemExit(f"{model}: the answer is not whole")
        windows.append((time.process_time() - began) * 1000 / calls)
    return statistics.median(windows)


async def measure(port: int, chunks: int, calls: int) -> None:
    """Print the table."""
    address = f"http://127.0.0.1:{port}"
    print(f"{'wire':8}{'shape':12}{'ms per call':>13}{'µs per chunk':>14}{f'ms per {chunks} chunks':>19}")
    async with open_session(frozenset({f"127.0.0.1:{port}"})) as session:
        providers: dict[str, Provider] = {
            "openai": OpenAICompatible(BY_NAME["custom"], session, base_url=address),
            "ollama": Ollama(session, base_url=address),
        }
        shapes: tuple[Shape, ...] = ("burst", "one by one")
        for wire, provider in providers.items():
            for shape in shapes:
                n = calls if shape == "burst" else max(1, calls // 5)
                await cpu_ms(provider, f"{wire}-1-{shape}", 1, 20)  # warm
                one = await cpu_ms(provider, f"{wire}-1-{shape}", 1, n)
                many = await cpu_ms(provider, f"{wire}-{chunks}-{shape}", chunks, n)
                print(f"{wire:8}{shape:12}{one:13.3f}{(many - one) * 1000 / (chunks - 1):14.1f}{many:19.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_client", description=__doc__)
    parser.add_argument("--chunks", type=int, default=100, help="chunks of an answer")
    parser.add_argument("--calls", type=int, default=100, help="calls of each of the five windows")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=serve, args=(there,), daemon=True)
    child.start()
    try:
        uvloop.run(measure(here.recv(), options.chunks, options.calls))
    finally:
        child.terminate()
        child.join()


if __name__ == "__main__":
    main()
