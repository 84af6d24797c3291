"""Talking to an agent: the question becomes a run in a thread, and what the run says is told as a model's words would be."""

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid5

import orjson

from backend.accounts import service as accounts
from backend.agent.inference.base import (
    ChatMessage,
    Completed,
    ModelEvent,
    ReasoningDelta,
    StopReason,
    TextDelta,
    Usage,
)
from backend.agent.inference.tokens import estimate_message
from backend.agent.runs import service as runs
from backend.agent.runs.watch import Watch
from backend.agent.schemas import TERMINAL, NewRun, NewThread, Run, UserMessage
from backend.agent.stream import NOTHING
from backend.agent.thread import service as threads
from backend.doors.openai.errors import Refused, RunNotCompleted
from backend.doors.openai.question import Question
from backend.kit.db import Database, DatabaseUnavailable, Session, storable
from backend.kit.problems import Conflict, NotFound, Problem, Unavailable

log = logging.getLogger(__name__)

_LONGEST_TEXT = 1_000_000
_SHOWN_ARGUMENTS = 300
_AGAIN = "\n\n[The answer begins again.]\n\n"
Said = tuple[Literal["user", "assistant"], str]


class WaitsForPerson(Conflict):
    """The agent waits for a person's decision first"""


class WatchEnded(Unavailable):
    """This process is leaving; the agent goes on"""


@dataclass(frozen=True)
class Place:
    """Where an agent's answer is made, and where a person looks at it."""

    account_id: UUID
    run_id: UUID
    thread_id: UUID
    model: str
    link: str


# Asking -----------------------------------------------------------------------------------------------------------------


async def begin(session: Session, agent_id: UUID, question: Question, *, key: str | None, request: bytes, threads_at: str) -> Run:
    """Start a run that answers the question, in the thread that it names or in a new one.

    Under an Idempotency-Key asking twice is one run; `request` is the hash of what is asked. `threads_at` is where people find threads.
    """
    _check(question)
    message_id, is_new = await accounts.claim(session, key, request)
    thread_id = await _known_thread(session, agent_id, question)
    if thread_id is None:
        thread_id = uuid5(message_id, "thread")
        text, history = _from_the_beginning(question)
        await threads.create(session, NewThread(thread_id=thread_id, agent_id=agent_id, title=""))
        if is_new:
            await threads.seed(session, thread_id, [(role, said, estimate_message(ChatMessage(role, said))) for role, said in history])
    else:
        text = _addition(question)
        if is_new:
            await _check_free(session, thread_id, f"{threads_at}/{thread_id}")
    if len(text) > _LONGEST_TEXT:
        raise Refused(f"A message may have {_LONGEST_TEXT:,} characters.", param="messages")
    return await runs.start_within(session, thread_id, NewRun(message=UserMessage(message_id=message_id, content=text)))


def _check(question: Question) -> None:
    """Refuse what would change the answer and an agent cannot do."""
    if question.tools:
        raise Refused("An agent runs its own tools and cannot be given others: leave out `tools`, or name a model.", param="tools", code="agent_has_tools")
    if any(message.role == "tool" or message.tool_calls for message in question.messages):
        raise Refused("An agent runs its own tools: it cannot be told of calls that another program made.", param="messages", code="agent_has_tools")
    if question.options.response_format:
        raise Refused("An agent answers in plain text: leave out the format, or name a model.", param="response_format", code="unsupported_parameter")
    if question.options.stop:
        raise Refused("An agent's answer cannot be cut at a word: leave out `stop`, or name a model.", param="stop", code="unsupported_parameter")
    last = question.messages[-1]
    if last.role != "user" or not last.content:
        raise Refused("An agent answers what a user says: the last message has to be the user's, with a text.", param="messages")


async def _known_thread(session: Session, agent_id: UUID, question: Question) -> UUID | None:
    """The thread to go on with. `NotFound` when the one that is named is not there."""
    named = question.thread_id or question.perhaps_thread_id
    if named is None:
        return None
    try:
        thread = await threads.get(session, named)
    except NotFound:
        if question.thread_id is None:
            return None
        raise
    if thread.agent_id != agent_id:
        if question.thread_id is None:
            return None
        raise Refused("This thread is with another agent.", param="model")
    return named


async def _check_free(session: Session, thread_id: UUID, link: str) -> None:
    """Refuse to wait behind a decision that may take a day."""
    active = (await threads.get(session, thread_id)).active_run
    if active is not None and active.status == "waiting_approval":
        raise WaitsForPerson(f"Decide at {link}, then send this again.")


def _from_the_beginning(question: Question) -> tuple[str, list[Said]]:
    """The newest text, and what was said before it; the client's instructions stand before the first text of the user."""
    said: list[Said] = []
    for message in question.messages:
        text = message.content if message.role != "system" else _instructed(message.content, "")
        if text:
            said.append(("assistant" if message.role == "assistant" else "user", storable(text)))
    if question.instructions:
        first = next(n for n, (role, _) in enumerate(said) if role == "user")
        said[first] = ("user", storable(_instructed(question.instructions, said[first][1])))
    return said[-1][1], said[:-1]


def _addition(question: Question) -> str:
    """What is new for a thread that goes on. A conversation that is told whole ends with it; the thread has the rest already."""
    if question.is_whole:
        return storable(question.messages[-1].content)
    if any(message.role == "assistant" for message in question.messages):
        raise Refused("What the agent said is in its thread: send only what the user adds.", param="input")
    text = "\n\n".join(message.content for message in question.messages)
    return storable(_instructed(question.instructions, text) if question.instructions else text)


def _instructed(instructions: str, text: str) -> str:
    return f"[Instructions of the program that asks:]\n{instructions}\n[End of the instructions.]\n\n{text}".rstrip()


async def stop(database: Database, account_id: UUID, run_id: UUID) -> None:
    """Stop a run that nobody waits for any more."""
    try:
        async with database.transaction(account_id) as session:
            await runs.stop(session, run_id)
    except (Problem, DatabaseUnavailable):
        log.warning("a run whose client left could not be stopped", extra={"stopped_run": str(run_id)})


# Listening --------------------------------------------------------------------------------------------------------------


class Words:
    """What a run says, as one text that only grows, although an answer may begin again: its messages with a blank line between them."""

    def __init__(self) -> None:
        self._whole: list[str] = []
        self._open: list[str] = []
        self._told: list[str] = []
        self._is_behind = False  # whether an answer that began again has not yet said all that was told

    @property
    def text(self) -> str:
        """The text as it stands."""
        return "\n\n".join(text for text in (*self._whole, "".join(self._open)) if text)

    def delta(self, text: str) -> str:
        """More of the message that is being written; returns what is new to the client."""
        is_first = not self._open
        self._open.append(text)
        if self._is_behind:
            return self._catch_up()
        piece = f"\n\n{text}" if is_first and any(self._whole) else text
        self._told.append(piece)
        return piece

    def restart(self) -> str:
        """The message that is being written is void."""
        self._open.clear()
        return self._catch_up()

    def complete(self, text: str) -> str:
        """The message is saved as it is."""
        self._open.clear()
        self._whole.append(text)
        return self._catch_up()

    def reset(self, whole: Sequence[str], partial: str) -> str:
        """The run so far."""
        self._whole = list(whole)
        self._open = [partial] if partial else []
        return self._catch_up()

    def _catch_up(self) -> str:
        told, now = "".join(self._told), self.text
        self._is_behind = told.startswith(now) and told != now
        if self._is_behind:
            return ""
        self._told = [now]
        if now.startswith(told):
            return now[len(told) :]
        return _AGAIN + now


class Listener:
    """A run as its events tell it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._words = Words()
        self._waiting: list[dict[str, Any]] = []
        self._usage = Usage()
        self._reason: StopReason = "stop"
        self.end: dict[str, Any] | None = None

    def hear(self, event: dict[str, Any]) -> ModelEvent | None:
        """Take an event of the run; returns what the client is told of it."""
        text = ""
        match event["type"]:
            case "message.delta":
                text = self._words.delta(event["text"])
            case "reasoning.delta":
                return ReasoningDelta(event["text"])
            case "message.restarted":
                text = self._words.restart()
            case "message.completed":
                text = self._complete(event["message"])
            case "stream.snapshot":
                text = self._set(event)
            case "approval.requested":
                self._waiting.append(event["approval"])
            case "approval.decided":
                self._waiting = [one for one in self._waiting if one["approval_id"] != event["approval"]["approval_id"]]
            case "usage.updated":
                self._count(event)
            case "run.finished":
                self.end = event
        return TextDelta(text) if text else None

    def waits(self) -> TextDelta | None:
        """What a client is told when the agent waits for a person."""
        if not self._waiting:
            return None
        acts = "; ".join(f"{act['action']} {_shown(act['arguments'])}" for act in self._waiting)
        begin = "\n\n" if self._words.text else ""
        return TextDelta(f"{begin}[The agent waits for a person to allow this: {acts}. Decide at {self._place.link}, where the answer goes on.]")

    def completed(self, more: str = "") -> Completed:
        """The whole answer. Raises `RunNotCompleted` when the run ended without one."""
        if not more and self.end is not None and self.end["status"] != "completed":
            raise _problem(self.end, self._place)
        return Completed(self._words.text + more, "", (), self._usage, self._reason, self._place.model, None)

    def _set(self, snapshot: dict[str, Any]) -> str:
        answers = [message for message in snapshot["messages"] if message["role"] == "assistant"]
        for message in answers:
            self._note(message)
        self._waiting = [one for one in snapshot["approvals"] if one["status"] == "pending"]
        self._count(snapshot["run"])
        return self._words.reset([message["content"] for message in answers], (snapshot["partial"] or {}).get("content", ""))

    def _complete(self, message: dict[str, Any]) -> str:
        self._note(message)
        return self._words.complete(message["content"])

    def _note(self, message: dict[str, Any]) -> None:
        reason = (message["receipt"] or {}).get("stop_reason")
        self._reason = reason if reason in ("length", "content_filter") else "stop"

    def _count(self, used: dict[str, Any]) -> None:
        self._usage = Usage(used["input_tokens"], used["output_tokens"], used["cached_tokens"])


async def follow(watch: Watch, place: Place) -> AsyncGenerator[ModelEvent, None]:
    """What a run says, to its end or until it waits for a person. Raises `RunNotCompleted`."""
    listener = Listener(place)
    async with contextlib.aclosing(_pieces(watch, place)) as pieces:
        async for piece in pieces:
            for event in _events(piece):
                if (told := listener.hear(event)) is not None:
                    yield told
            if listener.end is not None:
                yield listener.completed()
                return
            if (waits := listener.waits()) is not None:
                yield waits
                yield listener.completed(waits.text)
                return
    raise WatchEnded(f"Look at {place.link}.", headers={"x-should-retry": "false"})


async def _pieces(watch: Watch, place: Place) -> AsyncGenerator[bytes, None]:
    events: AsyncIterator[bytes] = watch.events(place.account_id, place.run_id, NOTHING)
    async for piece in events:
        yield piece


def _events(piece: bytes) -> list[dict[str, Any]]:
    """The events in a piece of a run's stream, which holds them whole."""
    return [orjson.loads(line[6:]) for line in piece.split(b"\n") if line.startswith(b"data: ")]


def _shown(arguments: Any) -> str:
    text = orjson.dumps(arguments).decode()
    return text if len(text) <= _SHOWN_ARGUMENTS else f"{text[:_SHOWN_ARGUMENTS]}…"


def _problem(end: dict[str, Any], place: Place) -> RunNotCompleted:
    """Why a run has no answer. Its thread has what was written."""
    assert end["status"] in TERMINAL
    why = end["problem"] or {}
    words = " ".join(text for text in (f"{why['title']}." if why.get("title") else "", why.get("detail", "")) if text)
    match end["status"]:
        case "stopped":
            return RunNotCompleted(f"Somebody stopped the agent. What it wrote is at {place.link}.", status=409, code="run_stopped")
        case "timed_out":
            return RunNotCompleted(f"{words} What it wrote is at {place.link}.", status=504, code="run_timed_out")
        case _:
            status = why.get("status", 500)
            return RunNotCompleted(words or "The agent failed.", status=status if status >= 500 else 500, code="run_failed")
