"""The demo model: a program, no AI, that ships with the product. It works offline, always answers the same, and drives real tools.

It understands two things in the newest message of the person: a script (`script.py` is its manual), for tests, demos and
benchmarks; and some plain English (`plain_english.py`), so that everything can be tried before there is a key.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Sequence

import msgspec
from msgspec import Struct

from backend.agent.inference.base import (
    ChatMessage,
    Completed,
    Kind,
    ModelEvent,
    ModelInfo,
    ModelRequest,
    ReasoningDelta,
    StopReason,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from backend.agent.inference.errors import (
    ContextOverflow,
    ModelError,
    ModelNotFound,
    RateLimited,
    UpstreamTimeout,
)
from backend.agent.inference.providers import plain_english, script
from backend.agent.inference.providers.http import DEFAULT_TIMEOUTS, Timeouts, classify
from backend.agent.inference.tokens import estimate_usage

TITLE = "Demo model, no AI"
MODEL = "demo"
CONTEXT_TOKENS = 128_000
_QUOTED_LINES = 15
_QUOTED_WIDTH = 200
_WORDS_AT_ONCE = 8  # without a pace
_ARGUMENTS_AT_ONCE = 400
_MAX_ATTEMPTS_KEPT = 1000

_CALL_ID = re.compile(r"demo_(\d+)_\d+_[0-9a-f]+")
_STATUS = re.compile(r"\[(denied|error|timeout|cancelled|unknown|partial)\] ")
_MARKS = re.compile(r"\A<tool_output\b[^>]*>\n?(.*?)\n?</tool_output\b[^>]*>\s*\Z", re.DOTALL)
_EXIT = re.compile(r"\bexit(?:ed with)?[ _]?(?:code|status)?\W{0,3}(-?\d+)", re.IGNORECASE)


class Outcome(Struct, frozen=True):
    """What a tool call came to; `status` is `ok` or what stood before the result."""

    status: str
    text: str

    @property
    def exit_code(self) -> int | None:
        found = _EXIT.search(self.text[:200]) or _EXIT.search(self.text[-200:])
        return int(found[1]) if found else None


class _Asked(Struct, frozen=True):
    """The newest message of the person, and what has happened since."""

    text: str
    turn: int
    outcomes: dict[int, list[Outcome]]  # of each turn, in the order of its calls


def read(messages: Sequence[ChatMessage]) -> _Asked:
    """Where the conversation stands. Our call ids say their turn, so that messages that were left out do not matter."""
    newest = next((n for n in range(len(messages) - 1, -1, -1) if messages[n].role == "user"), None)
    if newest is None:
        return _Asked("", 0, {})
    turn, calling = 0, 0
    turn_of: dict[str, int] = {}
    outcomes: dict[int, list[Outcome]] = {}
    for message in messages[newest + 1 :]:
        if message.role == "assistant" and message.tool_calls:
            named = _CALL_ID.fullmatch(message.tool_calls[0].id)
            calling = int(named[1]) if named else turn
            turn = calling + 1
            turn_of.update((call.id, calling) for call in message.tool_calls)
        elif message.role == "tool":
            outcomes.setdefault(turn_of.get(message.tool_call_id or "", calling), []).append(
                _outcome(message.content)
            )
    return _Asked(messages[newest].content, turn, outcomes)


def _outcome(content: str) -> Outcome:
    status = "ok"
    if found := _STATUS.match(content):
        status, content = found[1], content[found.end() :]
    if found := _MARKS.match(content):
        content = found[1]
    return Outcome(status, content)


class Scripted:
    """The demo model as a provider. `pace` is in words a second; None is as fast as possible."""

    name = "scripted"
    kind: Kind = "demo"

    def __init__(self, *, pace: float | None = None, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._pace = pace
        self._timeouts = timeouts
        self._attempts: dict[tuple[str, str, int], int] = {}

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Answer. Raises the `ModelError` that a script asks for."""
        if request.model != MODEL:
            raise ModelNotFound(
                f"The demo model is called scripted/{MODEL}, not scripted/{request.model}.",
                provider=self.name,
            )
        asked = read(request.messages)
        performance = _Performance(request, asked, self._pace or 0.0)
        for number, statement in enumerate(_turn(request, asked)):
            match statement:
                case script.Fail():
                    self._fail(statement, (request.request_id, performance.mark, number))
                case script.Hang():
                    seconds = self._timeouts.idle if performance.begun else self._timeouts.first_byte
                    await asyncio.sleep(seconds)
                    raise UpstreamTimeout(
                        f"No answer from {self.name} for {seconds:g} s.", provider=self.name
                    )
                case _:
                    async for event in performance.play(statement):
                        yield event
        yield performance.completed()

    async def models(self) -> list[ModelInfo]:
        """The one model there is."""
        return [ModelInfo(MODEL, CONTEXT_TOKENS, None, True, input_price=0, output_price=0, cached_price=0)]

    async def aclose(self) -> None:
        """Nothing to give back."""

    def _fail(self, fail: script.Fail, attempt: tuple[str, str, int]) -> None:
        if fail.times is not None:
            count = self._attempts.pop(attempt, 0)
            if count >= fail.times:
                return
            while len(self._attempts) >= _MAX_ATTEMPTS_KEPT:
                self._attempts.pop(next(iter(self._attempts)))
            self._attempts[attempt] = count + 1
        raise _failure(fail)


def _failure(fail: script.Fail) -> ModelError:
    match fail.how:
        case "quota":
            detail = "The script says that the credit is used up."
            return RateLimited(detail, provider=Scripted.name, status=429, retryable=False)
        case "timeout":
            return UpstreamTimeout("The script says that nobody answered in time.", provider=Scripted.name)
        case "overflow":
            detail = "The script says that the conversation is longer than the model's context length."
            return ContextOverflow(detail, provider=Scripted.name, status=400)
        case int() as status:
            kind, _ = classify(status, "")
            detail = f"The script says to fail with status {status}."
            return kind(detail, provider=Scripted.name, status=status, retry_after=fail.retry_after)


class _Performance:
    """One answer while it is being given."""

    def __init__(self, request: ModelRequest, asked: _Asked, pace: float) -> None:
        self._request = request
        self._asked = asked
        self._offered = [tool.name for tool in request.tools]
        self._pace = pace
        self._said: list[str] = []
        self._thought: list[str] = []
        self._calls: list[ToolCall] = []
        self._usage: Usage | None = None
        self._reason: StopReason | None = None
        seen = hashlib.blake2b(digest_size=6)
        for message in request.messages:
            seen.update(
                f"{message.role}\0{message.content}\0{message.tool_call_id}\0".encode("utf-8", "replace")
            )
        self.mark = seen.hexdigest()  # of this point of this conversation

    @property
    def begun(self) -> bool:
        return bool(self._said or self._thought or self._calls)

    async def play(self, statement: script.Statement) -> AsyncGenerator[ModelEvent, None]:
        match statement:
            case script.Say():
                async for event in self._speak(statement.text, statement.aloud):
                    yield event
            case script.Results():
                before = self._asked.outcomes.get(self._asked.turn - 1, [])
                async for event in self._speak("\n\n".join(_quote(outcome.text) for outcome in before), True):
                    yield event
            case script.Call():
                async for event in self._call(statement):
                    yield event
            case script.Wait():
                await asyncio.sleep(statement.seconds)
            case script.Pace():
                self._pace = statement.words_per_second
            case script.Report():
                self._usage = Usage(statement.input_tokens, statement.output_tokens, statement.cached_tokens)
            case script.Finish():
                self._reason = statement.reason
            case script.End() | script.Fail() | script.Hang():
                pass

    def completed(self) -> Completed:
        text, thought, calls = "".join(self._said), "".join(self._thought), tuple(self._calls)
        return Completed(
            content=text,
            reasoning=thought,
            tool_calls=calls,
            usage=self._usage or estimate_usage(self._request, text, thought, calls),
            stop_reason=self._reason or ("tool_calls" if calls else "stop"),
            model=MODEL,
            upstream_id=f"demo_{self.mark}",
        )

    async def _speak(self, text: str, aloud: bool) -> AsyncGenerator[ModelEvent, None]:
        """The text word by word at the pace, by the clock: words that are late come together."""
        kind = TextDelta if aloud else ReasoningDelta
        whole = self._said if aloud else self._thought
        pieces = re.findall(r"\S+\s*|\s+", text)
        clock = asyncio.get_running_loop().time
        began, spoken = clock(), 0
        while spoken < len(pieces):
            if self._pace:
                await asyncio.sleep(max(0.0, began + (spoken + 1) / self._pace - clock()))
                due = max(spoken + 1, int((clock() - began) * self._pace))
            else:
                await asyncio.sleep(0)  # others have their turn in a long answer
                due = spoken + _WORDS_AT_ONCE
            piece = "".join(pieces[spoken:due])
            spoken = due
            whole.append(piece)
            yield kind(piece)

    async def _call(self, statement: script.Call) -> AsyncGenerator[ModelEvent, None]:
        name = statement.name or (self._offered[0] if self._offered else "shell")
        if statement.offered_only and name not in self._offered:
            async for event in self._speak(
                f"I cannot call `{name}`: this tool is not switched on for this agent.", True
            ):
                yield event
            return
        index = len(self._calls)
        call = ToolCall(f"demo_{self._asked.turn}_{index}_{self.mark}", name, statement.arguments)
        self._calls.append(call)
        for start in range(0, len(call.arguments), _ARGUMENTS_AT_ONCE):
            await asyncio.sleep(1 / self._pace if self._pace else 0)
            yield ToolCallDelta(index, call.id, name, call.arguments[start : start + _ARGUMENTS_AT_ONCE])


def _turn(request: ModelRequest, asked: _Asked) -> Sequence[script.Statement]:
    """What to do in this model call."""
    if not script.is_script(asked.text):
        return _plain_turn(request, asked)
    try:
        turns = script.turns(asked.text)
    except script.NotUnderstood as error:
        return (script.Say(str(error)),)
    return turns[asked.turn] if asked.turn < len(turns) else (script.Say("The script is finished."),)


def _plain_turn(request: ModelRequest, asked: _Asked) -> Sequence[script.Statement]:
    offered = {tool.name for tool in request.tools}
    wanted = plain_english.actions(asked.text)
    possible = [action for action in wanted if action.tool in offered]
    if not wanted:
        return (script.Say(_help(offered)),)
    failed = any(outcome.status != "ok" for outcomes in asked.outcomes.values() for outcome in outcomes)
    if asked.turn < len(possible) and not failed:
        action = possible[asked.turn]
        arguments = msgspec.json.encode(action.arguments).decode()
        return script.Say(f"I will {action.will}."), script.Call(action.tool, arguments)
    return (script.Say(_report(wanted, possible, asked)),)


def _report(wanted: list[plain_english.Action], possible: list[plain_english.Action], asked: _Asked) -> str:
    """A short answer in Markdown that says what was found, and what was not done."""
    parts: list[str] = []
    for number, action in enumerate(possible[: asked.turn]):
        outcomes = asked.outcomes.get(number)
        parts.append(
            _told(action, outcomes[0]) if outcomes else f"**{action.did}.** I no longer have the result."
        )
    if left := [action.will for action in possible[asked.turn :]]:
        parts.append(f"I stopped there and did not {', nor '.join(left)}.")
    parts += [
        f"I cannot {action.will}: the tool `{action.tool}` is not switched on for this agent."
        for action in wanted
        if action not in possible
    ]
    return "\n\n".join(parts)


def _told(action: plain_english.Action, outcome: Outcome) -> str:
    quoted = _quote(outcome.text)
    match outcome.status:
        case "ok" if action.tool == "shell" and outcome.exit_code is not None:
            return f"**{action.did}** (exit code {outcome.exit_code}):\n\n{_quote(_printed(outcome.text))}"
        case "ok":
            return f"**{action.did}**:\n\n{quoted}"
        case "denied":
            return f"**Not done.** I wanted to {action.will}, and that was not allowed:\n\n{quoted}"
        case "timeout" | "cancelled" | "unknown" | "partial" as status:
            word = {"timeout": "took too long", "cancelled": "was stopped"}.get(
                status, "has no known outcome"
            )
            return f"**Not finished.** My attempt to {action.will} {word}; it may have taken effect or not:\n\n{quoted}"
        case _:
            return f"**Failed.** I wanted to {action.will}, and the tool answered:\n\n{quoted}"


def _printed(text: str) -> str:
    """What a command printed: the head of its result is told already, and names of streams are needed only where there are two."""
    head, found, rest = text.partition("--- stdout\n")
    alone = found and head.count("\n") == 1 and "\n--- stderr\n" not in rest
    return rest if alone else text.partition("\n")[2]


def _quote(text: str) -> str:
    """The first lines of a result in a fence that nothing in it can close."""
    lines = text.strip("\n").split("\n")
    if lines == [""]:
        return "(nothing)"
    shown = [
        line if len(line) <= _QUOTED_WIDTH else line[:_QUOTED_WIDTH] + " …" for line in lines[:_QUOTED_LINES]
    ]
    ticks = max((len(run) for run in re.findall(r"`{3,}", "\n".join(shown))), default=2) + 1
    more = len(lines) - len(shown)
    rest = f"\n\n… and {more} more line{'s' if more > 1 else ''}." if more else ""
    return f"{'`' * ticks}\n" + "\n".join(shown) + f"\n{'`' * ticks}{rest}"


_EXAMPLES = (
    ("shell", "run `ls -la`"),
    ("write_file", "write `hello` to notes.txt"),
    ("read_file", "read notes.txt"),
    ("edit_file", "replace `hello` with `goodbye` in notes.txt"),
    ("list_files", "list files"),
    ("search_files", 'search for "hello"'),
    ("delete_file", "delete notes.txt"),
)


def _help(offered: set[str]) -> str:
    lines = [f"- {example}" for tool, example in _EXAMPLES if tool in offered]
    opening = "I am the **demo model**: a small program, no AI. I need no key and no internet, and I answer only what I was made for."
    if not lines:
        able = "This agent has none of the tools I know how to use; switch on the shell or the files, and I can show them to you."
    else:
        able = "I can use this agent's tools. Try one of these, or several in one message:\n\n" + "\n".join(
            lines
        )
    return f"{opening}\n\n{able}\n\nFor real answers, add a provider's key or a local model in Settings, and choose its model for this agent."
