"""`vibe run`: a message to an agent from the terminal, through the same HTTP API as the web pages."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from typing import IO, Any, TextIO
from urllib.parse import quote
from uuid import UUID

import aiohttp

from backend.cli.errors import Failure
from backend.kit.ids import uuid7

_RETRIES = 20


class Refused(Failure):
    """The product refused what was asked; the text is its problem."""


class Talk:
    """A conversation with the product's API as the owner of `key`."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, url

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """One request; its JSON answer. Raises `Refused`."""
        headers = {"Idempotency-Key": str(uuid7())} if method == "POST" else {}
        async with self._http.request(method, f"{self._url}{path}", json=body, headers=headers) as answer:
            data = await answer.json(content_type=None) if answer.status != 204 else None
            if answer.status >= 400:
                problem = data if isinstance(data, dict) else {}
                raise Refused(f"{problem.get('title', answer.reason)}. {problem.get('detail', '')}".strip())
            return data

    async def text(self, path: str) -> str:
        """One answer as it is. Raises `Refused`."""
        async with self._http.get(f"{self._url}{path}") as answer:
            if answer.status >= 400:
                problem = await answer.json(content_type=None)
                raise Refused(f"{problem.get('title', answer.reason)}. {problem.get('detail', '')}".strip())
            return await answer.text()

    async def download(self, path: str, target: IO[bytes]) -> None:
        """One answer's bytes into a file. Raises `Refused`."""
        async with self._http.get(f"{self._url}{path}") as answer:
            if answer.status >= 400:
                problem = await answer.json(content_type=None)
                raise Refused(f"{problem.get('title', answer.reason)}. {problem.get('detail', '')}".strip())
            async for piece in answer.content.iter_chunked(262_144):
                target.write(piece)

    async def agent(self, name: str | None) -> str:
        """Id of the agent of that name or id; without one, of the newest agent, or of a new one from the first template."""
        if name is not None:
            with contextlib.suppress(ValueError):
                return str(UUID(name))
            page = await self.call("GET", f"/api/agents?limit=100&q={quote(name)}")
            for agent in page["items"]:
                if name in (agent["name"], agent["agent_id"]):
                    return str(agent["agent_id"])
            raise Refused(f"There is no agent named {name!r}. `vibe run` without --agent uses your newest one.")
        page = await self.call("GET", "/api/agents?limit=1")
        if page["items"]:
            return str(page["items"][0]["agent_id"])
        templates = await self.call("GET", "/api/agents/templates")
        made = await self.call("POST", "/api/agents", {"config": templates[0]["config"]})
        return str(made["agent_id"])

    async def start(self, thread_id: str, message: str) -> str:
        """Send a message into a thread; the id of the run that answers it."""
        body = {"message": {"message_id": str(uuid7()), "content": message}}
        run = await self.call("POST", f"/api/threads/{thread_id}/runs", body)
        return str(run["run_id"])

    async def events(self, run_id: str) -> AsyncIterator[dict[str, Any]]:
        """The run's events to its end. A lost connection is taken up again where it broke off."""
        last, failures = "", 0
        while True:
            try:
                headers = {"Last-Event-ID": last} if last else {}
                async with self._http.get(f"{self._url}/api/runs/{run_id}/events", headers=headers) as answer:
                    if answer.status >= 400:
                        raise Refused(f"The run's events cannot be read: {answer.status} {answer.reason}.")
                    async for event_id, event in _parsed(answer.content):
                        last, failures = event_id or last, 0
                        yield event
                        if event["type"] == "run.finished":
                            return
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
                pass
            failures += 1
            if failures > _RETRIES:
                raise Refused("The product does not answer any more; the run itself goes on.")
            await asyncio.sleep(min(0.1 * failures, 2.0))

    async def decide(self, approval: dict[str, Any], allow: bool) -> None:
        """Answer an approval, bound to the act that was shown."""
        body = {"decision": "approve" if allow else "deny", "act_hash": approval["act_hash"]}
        await self.call("POST", f"/api/approvals/{approval['approval_id']}/decision", body)


async def _parsed(stream: aiohttp.StreamReader) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Server-sent events as (id, data)."""
    event_id, data = "", ""
    buffered = b""
    async for chunk in stream.iter_any():
        *lines, buffered = (buffered + chunk).split(b"\n")
        for line in lines:
            field, _, value = line.rstrip(b"\r").decode().partition(":")
            value = value.removeprefix(" ")
            if field == "id":
                event_id = value
            elif field == "data":
                data += value
            elif not line.strip() and data:
                yield event_id, json.loads(data)
                data = ""


class Screen:
    """Shows a run's events as text: the answer plain, tool calls and their output as short marked lines."""

    def __init__(self, out: TextIO, notes: TextIO) -> None:
        self._out, self._notes = out, notes
        self._shown = ""  # what of the current answer is on screen
        self._arguments: dict[str, str] = {}
        self._asked: set[str] = set()
        self._column_zero = True

    def show(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """Show one event. Returns the approval that a person has to decide now, if it asks for one."""
        match event["type"]:
            case "stream.snapshot":
                return self._snapshot(event)
            case "message.delta":
                self._write(event["text"])
            case "message.restarted":
                self._note(f"the answer begins again: {event['reason']}")
                self._shown = ""
            case "message.completed":
                self._completed(event["message"])
            case "tool.arguments_delta":
                key = event["id"] or next(reversed(self._arguments), "")
                self._arguments[key] = self._arguments.get(key, "") + event["text"]
            case "tool.called":
                self._note(f"→ {event['name']} {_short(self._arguments.pop(event['call_id'], ''))}")
            case "tool.output":
                for line in event["text"].splitlines()[-8:]:
                    self._note(f"  {line}")
            case "tool.returned" if event["status"] != "ok":
                self._note(f"  {event['status']}: {_short(event['message']['content'])}")
            case "approval.requested":
                return self._approval(event["approval"])
            case "run.finished" if event["status"] != "completed":
                problem = event.get("problem") or {}
                self._note(f"{event['status']}: {problem.get('title', '')} {problem.get('detail', '')}".rstrip(": "))
            case _:
                pass
        return None

    def end(self) -> None:
        """Leave the cursor at the beginning of a line."""
        if not self._column_zero:
            self._out.write("\n")
            self._out.flush()

    def _snapshot(self, event: dict[str, Any]) -> dict[str, Any] | None:
        partial = (event.get("partial") or {}).get("content", "")
        if partial.startswith(self._shown):  # what was shown stays; only what came meanwhile is added
            self._write(partial[len(self._shown) :])
        for approval in event["approvals"]:
            if approval["status"] == "pending":
                return self._approval(approval)
        return None

    def _completed(self, message: dict[str, Any]) -> None:
        if message["role"] == "assistant":
            content = message["content"]
            self._write(content[len(self._shown) :] if content.startswith(self._shown) else content)
            self._shown = ""
            for call in message["tool_calls"]:
                self._arguments[call["id"]] = call["arguments"]
            if content:
                self.end()
                self._column_zero = True

    def _approval(self, approval: dict[str, Any]) -> dict[str, Any] | None:
        if approval["approval_id"] in self._asked:
            return None
        self._asked.add(approval["approval_id"])
        self._note(f"? {approval['agent_name']} asks to run {approval['action']} {_short(json.dumps(approval['arguments']), 500)}")
        return approval

    def _write(self, text: str) -> None:
        if text:
            self._shown += text
            self._out.write(printable(text))
            self._out.flush()
            self._column_zero = text.endswith("\n")

    def _note(self, text: str) -> None:
        self.end()
        self._column_zero = True
        dim, plain = ("\033[2m", "\033[0m") if self._notes.isatty() else ("", "")
        self._notes.write(f"{dim}{printable(text)}{plain}\n")
        self._notes.flush()


def _short(text: str, length: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def printable(text: str) -> str:
    """Without control characters: what a tool prints must not drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "·" for c in text)


async def run(talk: Talk, message: str, *, agent: str | None, thread_id: str | None, as_json: bool) -> int:
    """Send a message and show the answer as it comes. Returns the exit code: 0 when the run completed."""
    if thread_id is None:
        thread = await talk.call("POST", "/api/threads", {"agent_id": await talk.agent(agent)})
        thread_id = str(thread["thread_id"])
    run_id = await talk.start(thread_id, message)
    stopping: set[asyncio.Task[Any]] = set()

    def stop() -> None:
        stopping.add(asyncio.ensure_future(talk.call("POST", f"/api/runs/{run_id}/stop")))

    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop)
    status = await _show(talk, run_id, as_json)
    if not as_json:
        print(f"thread {thread_id} · {status} · go on with: vibe run --thread {thread_id} \"…\"", file=sys.stderr)
    return 0 if status == "completed" else 1


async def _show(talk: Talk, run_id: str, as_json: bool) -> str:
    """Show a run to its end; its final status."""
    screen, status = Screen(sys.stdout, sys.stderr), "unknown"
    async for event in talk.events(run_id):
        if as_json:
            print(json.dumps(event), flush=True)
        elif approval := screen.show(event):
            await _ask(talk, approval)
        if event["type"] == "run.finished":
            status = str(event["status"])
    screen.end()
    return status


async def _ask(talk: Talk, approval: dict[str, Any]) -> None:
    """Let the person at the terminal decide; without one, say that the run waits."""
    if not sys.stdin.isatty():
        print("The run waits until this is decided on the Approvals page.", file=sys.stderr)
        return
    answer = await asyncio.to_thread(input, "allow this once? [y/N] ")
    await talk.decide(approval, answer.strip().lower() in ("y", "yes"))
