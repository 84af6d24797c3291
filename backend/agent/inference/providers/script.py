"""The script language of the demo model: what a user's message says line by line is what the model does.

The message's first line is `#script`. Each further line is one statement; empty lines and lines that start with `#` are skipped.

    say "text"                  say a text (a JSON string, or the rest of the line as it is)
    say 100 words               say as many words
    think "text"                the same two as reasoning
    results                     say what the tools of the turn before returned
    call shell {"command": "x"} call a tool; ends the turn. A `&` at the end adds the next line's call to the same turn
    malformed-call              call the first tool there is with arguments that are not JSON; ends the turn
    unknown-tool                call a tool that does not exist; ends the turn
    wait 0.2                    be silent for so many seconds
    pace 20                     from here on say so many words a second; 0 is as fast as possible
    usage 1000 50 200           report this usage: input, output and (optional) cached tokens
    finish length               end with this stop reason: stop, length, content_filter, other
    fail 429 retry-after=1 times=2  fail with this HTTP status, in each attempt or only in so many; also `fail quota`, `fail timeout`
    overflow                    fail as if the conversation were too long
    hang                        say nothing more, for ever
    empty                       end the turn here; after nothing else that is an empty answer

A turn is one model call: the statements up to one that ends it. Which turn is next follows from the messages alone (the number of
assistant messages since the script), so a call that is made again after a crash gives the same answer. The one exception is
`times=`, which counts attempts in the process, by request id.
"""

import re
import shlex
from typing import Any, Literal

import msgspec
from msgspec import Struct

from backend.agent.inference.base import StopReason

MARK = "#script"
MAX_WORDS = 1_000_000
_MAX_SECONDS = 3600.0
_WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "the",
    "lazy",
    "dog",
    "while",
    "seven",
    "wise",
    "owls",
    "watch",
    "from",
    "an",
    "old",
    "oak",
    "tree",
]


class Say(Struct, frozen=True):
    text: str
    aloud: bool = True


class Results(Struct, frozen=True):
    pass


class Call(Struct, frozen=True):
    """`name` None is the first tool there is."""

    name: str | None
    arguments: str
    offered_only: bool = True


class Wait(Struct, frozen=True):
    seconds: float


class Pace(Struct, frozen=True):
    words_per_second: float


class Report(Struct, frozen=True):
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


class Finish(Struct, frozen=True):
    reason: StopReason


class Fail(Struct, frozen=True):
    """`times` None fails in each attempt."""

    how: int | Literal["quota", "timeout", "overflow"]
    retry_after: float | None = None
    times: int | None = None


class Hang(Struct, frozen=True):
    pass


class End(Struct, frozen=True):
    pass


Statement = Say | Results | Call | Wait | Pace | Report | Finish | Fail | Hang | End
Turn = tuple[Statement, ...]


class NotUnderstood(Exception):
    """A line of the script is not understood"""

    def __init__(self, number: int, line: str, reason: str) -> None:
        super().__init__(f"Line {number} of the script is not understood: `{line}` ({reason}).")


def is_script(text: str) -> bool:
    return text.lstrip().split("\n", 1)[0].strip() == MARK


def turns(text: str) -> list[Turn]:
    """The turns of a script. Raises `NotUnderstood`."""
    done: list[Turn] = []
    turn: list[Statement] = []
    lines = text.lstrip().split("\n")
    for number, raw in enumerate(lines[1:], start=2):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        joined = line.startswith("call ") and line.endswith("&")
        try:
            statement = _statement(line[:-1].rstrip() if joined else line)
        except (ValueError, msgspec.MsgspecError) as error:
            raise NotUnderstood(number, line, str(error) or "no such statement") from error
        turn.append(statement)
        if isinstance(statement, Call | End) and not joined:
            done.append(tuple(turn))
            turn = []
    if turn or not done or not isinstance(done[-1][-1], End):
        done.append(tuple(turn))
    return done


def words(count: int) -> str:
    """So many words, always the same."""
    return " ".join(_WORDS[n % len(_WORDS)] for n in range(count))


def _statement(line: str) -> Statement:
    verb, _, rest = line.partition(" ")
    rest = rest.strip()
    match verb:
        case "say":
            return Say(_text(rest))
        case "think":
            return Say(_text(rest), aloud=False)
        case "call":
            name, _, arguments = rest.partition(" ")
            arguments = arguments.strip() or "{}"
            msgspec.json.decode(arguments, type=dict[str, Any])
            return Call(name, arguments)
        case "wait":
            return Wait(_number(rest, _MAX_SECONDS))
        case "pace":
            return Pace(_number(rest, 1e6))
        case "usage":
            return _report([int(part) for part in rest.split()])
        case "finish":
            return Finish(msgspec.convert(rest, StopReason))
        case "fail":
            return _fail(rest)
        case _:
            return _bare(line)


def _report(counts: list[int]) -> Report:
    if not 2 <= len(counts) <= 3 or min(counts) < 0:
        raise ValueError("usage is input, output and perhaps cached tokens")
    return Report(*counts)


def _bare(line: str) -> Statement:
    match line:
        case "results":
            return Results()
        case "malformed-call":
            return Call(None, '{"command": "ls')
        case "unknown-tool":
            return Call("no_such_tool", "{}", offered_only=False)
        case "overflow":
            return Fail("overflow")
        case "hang":
            return Hang()
        case "empty":
            return End()
        case _:
            raise ValueError("no such statement")


def _text(rest: str) -> str:
    if counted := re.fullmatch(r"(\d+) words?", rest):
        return words(min(int(counted[1]), MAX_WORDS))
    return msgspec.json.decode(rest, type=str) if rest.startswith('"') else rest


def _number(text: str, most: float) -> float:
    number = float(text)
    if not 0 <= number <= most:
        raise ValueError(f"must be from 0 to {most:g}")
    return number


def _fail(rest: str) -> Fail:
    how, *options = shlex.split(rest)
    values = dict(option.split("=", 1) for option in options)
    if unknown := values.keys() - {"retry-after", "times"}:
        raise ValueError(f"no option {sorted(unknown)[0]}")
    return Fail(
        msgspec.convert(how, Literal["quota", "timeout"]) if not how.isdigit() else _status(int(how)),
        float(values["retry-after"]) if "retry-after" in values else None,
        int(values["times"]) if "times" in values else None,
    )


def _status(status: int) -> int:
    if not 400 <= status < 600:
        raise ValueError("a status is from 400 to 599")
    return status
