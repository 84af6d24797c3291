"""A person who uses the product over HTTP, as the tests need one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson

from backend.accounts import service as accounts
from backend.accounts.schemas import NewApiKey
from backend.kit.db import Database

TERMINAL = {"completed", "failed", "stopped", "timed_out"}
DEADLINE = 60.0


@dataclass
class Person:
    """Somebody with an account and a key."""

    account_id: UUID
    user_id: UUID
    key: str

    @asynccontextmanager
    async def at(self, url: str) -> AsyncIterator["Product"]:
        """The product at an address, asked in this person's name."""
        headers = {"Authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as http:
            yield Product(http, self)


async def owner(database: Database, email: str = "ada@example.org") -> Person:
    """The first owner, with an API key."""
    me = await accounts.create_owner(database, email, "Ada", "correct horse battery")
    async with database.transaction(me.account.account_id) as session:
        key = await accounts.create_key(session, me.user.user_id, NewApiKey(name="tests"))
    return Person(me.account.account_id, me.user.user_id, key.key)


@dataclass
class Product:
    """The product as a person sees it."""

    http: httpx.AsyncClient
    person: Person

    async def ask(self, method: str, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        """A request's JSON; the status must be `expect`, or any success."""
        response = await self.http.request(method, path, json=body)
        fine = response.is_success if expect is None else response.status_code == expect
        assert fine, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    async def agent(self, **config: Any) -> dict[str, Any]:
        """A new agent; without a word about it, the demo model with both sandbox tools."""
        defaults = {"name": "Tester", "model": {"provider": "scripted", "name": "demo"}, "tools": ["code_execution", "file_operations"]}
        return await self.ask("POST", "/api/agents", {"config": defaults | config})  # type: ignore[no-any-return]

    async def thread(self, agent: dict[str, Any] | None = None, **config: Any) -> str:
        """A new thread's id."""
        agent = agent or await self.agent(**config)
        created = await self.ask("POST", "/api/threads", {"agent_id": agent["agent_id"]})
        return str(created["thread_id"])

    async def send(self, thread_id: str, text: str, *, message_id: str | None = None, expect: int = 202, **more: Any) -> dict[str, Any]:
        """Send a message; the run."""
        body = {"message": {"message_id": message_id or str(uuid4()), "content": text}} | more
        return await self.ask("POST", f"/api/threads/{thread_id}/runs", body, expect=expect)  # type: ignore[no-any-return]

    async def events(self, run_id: str, last: str | None = None) -> AsyncIterator[tuple[str | None, dict[str, Any]]]:
        """A run's events with their ids, until the server ends the stream."""
        headers = {"Last-Event-ID": last} if last else {}
        async with self.http.stream("GET", f"/api/runs/{run_id}/events", headers=headers, timeout=httpx.Timeout(30, read=DEADLINE)) as response:
            assert response.status_code == 200, await response.aread()
            id = None
            async for line in response.aiter_lines():
                if line.startswith("id: "):
                    id = line[4:]
                elif line.startswith("data: "):
                    yield id, orjson.loads(line[6:])
                    id = None

    async def finish(self, run_id: str, deadline: float = DEADLINE) -> dict[str, Any]:
        """The run when it has ended."""
        async with asyncio.timeout(deadline):
            while (run := await self.ask("GET", f"/api/runs/{run_id}"))["status"] not in TERMINAL:
                await asyncio.sleep(0.05)
        return run  # type: ignore[no-any-return]

    async def say(self, thread_id: str, text: str, **more: Any) -> dict[str, Any]:
        """Send a message and wait for the run's end."""
        return await self.finish((await self.send(thread_id, text, **more))["run_id"])

    async def messages(self, thread_id: str) -> list[dict[str, Any]]:
        """All messages of a thread, oldest first."""
        found: list[dict[str, Any]] = []
        before = ""
        while True:
            page = await self.ask("GET", f"/api/threads/{thread_id}/messages?limit=200{before}")
            found = page["items"] + found
            if page["next_before_seq"] is None:
                return found
            before = f"&before_seq={page['next_before_seq']}"


def script(*lines: str | tuple[str, dict[str, Any]]) -> str:
    """A message in the demo model's script language; a pair is a tool call."""
    written = [line if isinstance(line, str) else f"call {line[0]} {json.dumps(line[1])}" for line in lines]
    return "\n".join(["#script", *written])
