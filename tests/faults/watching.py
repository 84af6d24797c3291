"""A watcher as strict as a client can be: it follows a run's stream over any number of connections and notices what is missing or doubled."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

Place = Callable[[], str]
Id = tuple[int, int]


@dataclass
class Transcript:
    """What a reader holds: a snapshot is set, everything else is applied to it."""

    state: dict[str, Any] = field(default_factory=dict)
    last: Id | None = None
    snapshots: int = 0
    restarts: int = 0

    def apply(self, id: Id | None, event: dict[str, Any]) -> None:
        """Take one event. An id that does not follow the last one is an error, unless it opens a generation with a snapshot."""
        type = event["type"]
        if id is not None and id != (0, 0):
            follows = self.last is not None and id == (self.last[0], self.last[1] + 1)
            opens = type == "stream.snapshot" and (self.last is None or id > self.last)
            assert follows or opens, f"{type} {id} came after {self.last}"
        if id is not None:
            self.last = id
        match type:
            case "stream.snapshot":
                self.snapshots += 1
                self.state = event
            case "message.started" | "message.restarted":
                self.restarts += type == "message.restarted"
                self.state["partial"] = {"message_id": event["message_id"], "content": "", "reasoning": "", "tool_calls": []}
            case "message.delta":
                self.state["partial"]["content"] += event["text"]
            case "message.completed":
                partial, self.state["partial"] = self.state["partial"], None
                if partial is not None:
                    assert partial["message_id"] == event["message"]["message_id"]
                    assert partial["content"] == event["message"]["content"], "the deltas are not the message"
                self._add(event["message"])
            case "tool.returned":
                self._add(event["message"])
            case "run.finished":
                self.state["run"] |= {"status": event["status"], "problem": event["problem"]}
            case _:
                pass

    def _add(self, message: dict[str, Any]) -> None:
        assert message["message_id"] not in {m["message_id"] for m in self.state["messages"]}, "a message came twice"
        self.state["messages"].append(message)

    @property
    def status(self) -> str:
        """The run's status."""
        return str(self.state["run"]["status"])

    @property
    def messages(self) -> list[tuple[Any, ...]]:
        """The messages, as `essence` makes them comparable."""
        return essence(self.state["messages"])


def essence(messages: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What must be equal of messages that came by different ways."""
    names = ("message_id", "role", "content", "reasoning", "tool_call_id", "status", "seq")
    return [(*(m[name] for name in names), orjson.dumps(m["tool_calls"])) for m in messages]


@dataclass
class Watcher:
    """Follows one run to its end. With `restless` it leaves now and then and comes back, wherever `place` says."""

    run_id: str
    key: str
    place: Place
    restless: random.Random | None = None
    seen: Transcript = field(default_factory=Transcript)
    connections: int = 0

    async def follow(self, http: aiohttp.ClientSession) -> Transcript:
        """Until `run.finished`; a connection that breaks, is refused or answered with 503 is made again."""
        while True:
            try:
                if await self._connect(http):
                    return self.seen
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            await asyncio.sleep(0.02)

    async def _connect(self, http: aiohttp.ClientSession) -> bool:
        headers = {"Authorization": f"Bearer {self.key}"}
        if self.seen.last is not None:
            headers["Last-Event-ID"] = f"{self.seen.last[0]}-{self.seen.last[1]}"
        leaves_after = self.restless.uniform(0.05, 2.0) if self.restless else None
        self.connections += 1
        try:
            async with asyncio.timeout(leaves_after):
                url = f"{self.place()}/api/runs/{self.run_id}/events"
                async with http.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=None, sock_read=30)) as response:
                    if response.status == 503:
                        assert response.headers["Retry-After"]
                        await asyncio.sleep(0.2)
                        return False
                    assert response.status == 200, await response.text()
                    return await self._read(response)
        except TimeoutError:
            return False

    async def _read(self, response: aiohttp.ClientResponse) -> bool:
        id: Id | None = None
        async for line in response.content:
            if line.startswith(b"id: "):
                generation, _, n = line[4:].strip().partition(b"-")
                id = (int(generation), int(n))
            elif line.startswith(b"data: "):
                event = orjson.loads(line[6:])
                self.seen.apply(id, event)
                id = None
                if event["type"] == "run.finished":
                    return True
        return False
