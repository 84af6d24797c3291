"""What is measured: the product, the bare loop, and the fake model itself (which shows what the measuring costs)."""

import asyncio
import re
import secrets
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from benchmarks.driver import Missing, Transcript
from benchmarks.plan import Plan
from benchmarks.processes import Running, free_port, log_of, running
from benchmarks.wire import Connection, Events

TOOL = "list_files"
TOKEN_SECONDS = 20.0


class Target(Protocol):
    """Something that turns a message into a streamed answer."""

    @property
    def name(self) -> str:
        """What the report calls it."""
        ...

    @property
    def roots(self) -> Sequence[int]:
        """Process ids whose trees are the target."""
        ...

    @property
    def started(self) -> Mapping[str, float]:
        """Seconds it took to start (`wall_s`, `cpu_s`), if it was started here."""
        ...

    async def thread(self) -> str:
        """A new, empty conversation."""
        ...

    async def turn(self, number: int, thread: str, message: str, transcript: Transcript) -> int:
        """One turn over the connection of that number; the bytes of its event stream."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


@dataclass
class Pool:
    """A keep-alive connection for each client of a target."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    open: dict[int, Connection] = field(default_factory=dict)

    async def connection(self, number: int) -> Connection:
        """The connection of that client."""
        if number not in self.open or self.open[number].closed:
            self.open[number] = await Connection.open(self.url, self.headers)
        return self.open[number]

    async def close(self) -> None:
        """Close all."""
        for connection in self.open.values():
            connection.close()
        self.open.clear()


class Choice(msgspec.Struct):
    """One choice of a streamed completion."""

    delta: dict[str, object]


class Chunk(msgspec.Struct):
    """One chunk of a streamed completion."""

    choices: list[Choice] = []


class Event(msgspec.Struct):
    """An event of a run; text only where it has one."""

    type: str
    text: str = ""


class Said(msgspec.Struct):
    """A message of a run."""

    role: str
    content: str
    run_id: str | None = None


class Partial(msgspec.Struct):
    """The message that is being written."""

    content: str


class Snapshot(msgspec.Struct):
    """A run so far."""

    messages: list[Said]
    partial: Partial | None = None

    def answer(self, run: str) -> str:
        """What the agent has said in that run."""
        own = [message for message in self.messages if message.run_id == run]
        said = "".join(message.content for message in own if message.role == "assistant")
        return said + (self.partial.content if self.partial else "")


class Finished(msgspec.Struct):
    """The end of a run."""

    status: str
    problem: dict[str, object] | None = None


class Started(msgspec.Struct):
    """A run as the API answers it."""

    run_id: str


class Direct:
    """The fake model with nobody between: the floor of the measuring itself."""

    name = "fake model"

    def __init__(self, url: str, process: Running) -> None:
        self.url = url
        self.roots, self.started = [process.pid], process.started
        self._pool = Pool(url)

    async def thread(self) -> str:
        """It keeps none."""
        return ""

    async def turn(self, number: int, thread: str, message: str, transcript: Transcript) -> int:
        """One completion."""
        connection = await self._pool.connection(number)

        def on_data(data: bytes) -> None:
            if data == b"[DONE]":
                return transcript.end()
            for choice in msgspec.json.decode(data, type=Chunk).choices:
                if text := choice.delta.get("content"):
                    transcript.hear(str(text))

        events = Events(on_data)
        body = {
            "model": transcript.plan.name,
            "messages": [{"role": "user", "content": message}],
            "stream": True,
        }
        transcript.start()
        await connection.request("POST", "/v1/chat/completions", body, sink=events.feed)
        return events.bytes

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()


class Bare:
    """The bare loop (bare_loop.py)."""

    name = "bare loop"

    def __init__(self, url: str, process: Running) -> None:
        self.roots, self.started = [process.pid], process.started
        self._pool = Pool(url)

    async def thread(self) -> str:
        """A name is enough."""
        return uuid.uuid4().hex

    async def turn(self, number: int, thread: str, message: str, transcript: Transcript) -> int:
        """One request, whose answer is the stream."""
        connection = await self._pool.connection(number)

        def on_data(data: bytes) -> None:
            event = msgspec.json.decode(data, type=Event)
            transcript.end() if event.type == "end" else transcript.hear(event.text)

        events = Events(on_data)
        body = {"model": transcript.plan.name, "content": message}
        transcript.start()
        await connection.request("POST", f"/threads/{thread}/turns", body, sink=events.feed)
        transcript.must_have_ended()
        return events.bytes

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()


class Product:
    """VIBE AI over its HTTP API, as a program with a key uses it."""

    name = "product"

    def __init__(self, url: str, key: str, roots: Sequence[int], started: Mapping[str, float]) -> None:
        self.roots, self.started = roots, started
        self._pool = Pool(url, {"Authorization": f"Bearer {key}"})
        self._agent: str | None = None

    async def thread(self) -> str:
        """A new thread with the benchmark's agent."""
        connection = await self._pool.connection(0)
        if self._agent is None:
            config = {
                "name": "Benchmark",
                "system_prompt": "You are a helpful agent.",
                "model": {"provider": "custom", "name": Plan().name},
                "tools": ["file_operations"],
                "permissions": {TOOL: "allow"},
                "limits": {"context_tokens": 200_000},  # the long thread is sent whole
            }
            answer = await connection.request("POST", "/api/agents", {"config": config})
            self._agent = msgspec.json.decode(answer.body, type=dict)["agent_id"]
        new = {"agent_id": self._agent, "title": "Benchmark"}
        answer = await connection.request("POST", "/api/threads", new)
        return str(msgspec.json.decode(answer.body, type=dict)["thread_id"])

    async def turn(self, number: int, thread: str, message: str, transcript: Transcript) -> int:
        """A run is started, then its events are watched."""
        connection = await self._pool.connection(number)
        run = ""

        def on_data(data: bytes) -> None:
            event = msgspec.json.decode(data, type=Event)
            match event.type:
                case "message.delta":
                    transcript.hear(event.text)
                case "stream.snapshot":
                    transcript.set(msgspec.json.decode(data, type=Snapshot).answer(run))
                case "run.finished":
                    finished = msgspec.json.decode(data, type=Finished)
                    if finished.status != "completed":
                        raise Missing(f"the run ended {finished.status}: {finished.problem}")
                    transcript.end()

        events = Events(on_data)
        body = {
            "message": {"message_id": str(uuid.uuid4()), "content": message},
            "model": f"custom/{transcript.plan.name}",
            "if_busy": "enqueue",
        }
        transcript.start()
        answer = await connection.request("POST", f"/api/threads/{thread}/runs", body)
        run = msgspec.json.decode(answer.body, type=Started).run_id
        await connection.request("GET", f"/api/runs/{run}/events", sink=events.feed)
        transcript.must_have_ended()
        return events.bytes

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()


@asynccontextmanager
async def fake_model(room: Path, port: int | None = None) -> AsyncIterator[Direct]:
    """The fake model in a process of its own."""
    url = f"http://127.0.0.1:{port or free_port()}"
    arguments = ("--port", url.rpartition(":")[2], "--tool", TOOL)
    async with running("benchmarks.fake_model", *arguments, room=room, ready=f"{url}/v1/models") as process:
        direct = Direct(url, process)
        yield direct
        await direct.close()


@asynccontextmanager
async def bare_loop(room: Path, model_url: str) -> AsyncIterator[Bare]:
    """The bare loop in a process of its own."""
    url = f"http://127.0.0.1:{free_port()}"
    arguments = ("--port", url.rpartition(":")[2], "--model-url", f"{model_url}/v1")
    async with running("benchmarks.bare_loop", *arguments, room=room, ready=f"{url}/health/ready") as process:
        bare = Bare(url, process)
        yield bare
        await bare.close()


@asynccontextmanager
async def product(room: Path, model_url: str) -> AsyncIterator[Product]:
    """The product on an empty data directory, with its own Postgres and Valkey; its first owner is made here."""
    data = room / "data"
    url = f"http://127.0.0.1:{free_port()}"
    env = {
        "VIBE_DATA_DIR": str(data),
        "VIBE_LOG_LEVEL": "warning",
        "VIBE_RATE_LIMIT_PER_MINUTE": "0",  # the load comes with one key
        "CUSTOM_BASE_URL": f"{model_url}/v1",
        "CUSTOM_API_KEY": "benchmark",
        "VIBE_PRIVATE_TARGETS": urlsplit(model_url).netloc,
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "REDIS_HOST": "",
    }
    arguments = ("up", "--port", url.rpartition(":")[2])
    async with running("backend.cli", *arguments, room=room, ready=f"{url}/health/ready", env=env) as process:
        key = await first_key(url, log_of(room, "backend.cli"))
        target = Product(url, key, [process.pid], process.started)
        yield target
        await target.close()


async def first_key(url: str, log: Path) -> str:
    """Make the first owner with the token that is printed at the start, and a key for this driver."""
    async with asyncio.timeout(TOKEN_SECONDS):
        while not (token := re.search(r"/setup\?token=(\S+)", log.read_text())):
            await asyncio.sleep(0.05)
    person = {"email": "bench@example.org", "name": "Benchmark", "password": secrets.token_urlsafe()}
    same_site = {"Origin": url, "Sec-Fetch-Site": "same-origin"}
    visitor = await Connection.open(url, same_site)
    answer = await visitor.request("POST", "/api/auth/setup", {"token": token[1], **person})
    visitor.close()
    cookie = answer.headers["set-cookie"].partition(";")[0]
    owner = await Connection.open(url, {**same_site, "Cookie": cookie})
    answer = await owner.request("POST", "/api/accounts/api-keys", {"name": "benchmarks"})
    owner.close()
    return str(msgspec.json.decode(answer.body, type=dict)["key"])
