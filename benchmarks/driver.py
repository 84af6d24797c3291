"""Drives turns, checks that every token arrived in its place, and notes when.

The cost of watching one token is a string comparison and a subtraction; the driver's own share is measured and printed.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.plan import Plan, text_of

TOKEN_WIDTH = 5
ON_TIME_SECONDS = 1.0  # a token later than this after its moment is not on time


class Missing(Exception):
    """What arrived is not what the model said: a token is missing, doubled or changed."""


class Transcript:
    """What the watcher of one turn has seen so far. Times are seconds of the monotonic clock.

    A token's moment is counted from when the message was sent: whatever holds a turn up makes its tokens late.
    """

    __slots__ = ("_expected", "_heard", "ended", "first", "lateness", "plan", "sent", "tokens")

    def __init__(self, plan: Plan, lateness: list[float] | None = None) -> None:
        self.plan = plan
        self.tokens = 0
        self.sent = self.first = self.ended = 0.0
        self.lateness = lateness if lateness is not None else []
        self._expected = text_of(plan.tokens)
        self._heard = 0  # characters

    def start(self) -> None:
        """The message is sent now."""
        self.sent = time.monotonic()

    def hear(self, text: str) -> None:
        """A piece of the answer has arrived. Raises `Missing` when it is not the next piece."""
        now = time.monotonic()
        start, self._heard = self._heard, self._heard + len(text)
        if text != self._expected[start : self._heard]:
            raise Missing(f"instead of {self._expected[start : start + 20]!r} came {text[:20]!r}")
        heard = self._heard // TOKEN_WIDTH
        self.first = self.first or now
        since = now - self.sent
        self.lateness += [since - self.plan.due(token) for token in range(self.tokens, heard)]
        self.tokens = heard

    def set(self, text: str) -> None:
        """The whole answer so far, as a snapshot gives it: only what is new counts as arriving now."""
        if text[: self._heard] != self._expected[: self._heard]:
            raise Missing("a snapshot is not what was heard before")
        if text[self._heard :]:
            self.hear(text[self._heard :])

    def end(self) -> None:
        """The target says the turn is over. Raises `Missing` when tokens are."""
        self.ended = time.monotonic()
        if self.tokens != self.plan.tokens:
            raise Missing(f"{self.tokens} of {self.plan.tokens} tokens arrived")

    def must_have_ended(self) -> None:
        """The stream is closed. Raises `Missing` when its end was never said."""
        if not self.ended:
            raise Missing(
                f"the stream closed after {self.tokens} of {self.plan.tokens} tokens without an end"
            )

    @property
    def first_added(self) -> float:
        """Seconds to the first token, less what the model took for it."""
        return self.first - self.sent - self.plan.due(0)

    @property
    def whole_added(self) -> float:
        """Seconds to the end of the turn, less what the model took for it."""
        return self.ended - self.sent - self.plan.seconds


@dataclass
class Outcome:
    """What a number of turns came to. `bytes` are of the event streams. Failed turns are kept by their reason."""

    turns: list[Transcript] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens that arrived."""
        return len(self.lateness)

    def on_time(self, due: int) -> float:
        """Share of `due` tokens that arrived on time; one that never came was not."""
        return sum(late <= ON_TIME_SECONDS for late in self.lateness) / due


Turn = Callable[[int, Transcript], Awaitable[int]]
"""Runs one turn for the client of that number, fills the transcript, and answers the bytes of its stream."""


async def drive(
    turn: Turn,
    plan: Plan,
    clients: int,
    each: int,
    *,
    spread: float = 0.0,
    timeout: float = 300.0,
    outcome: Outcome | None = None,
) -> Outcome:
    """`clients` people at once, `each` turns one after the other; they begin spread evenly over `spread` seconds.

    A turn that fails or is not over after `timeout` seconds (from the start of all) becomes an error of the outcome.
    An `outcome` that is brought along can be looked at meanwhile.
    """
    outcome = outcome or Outcome()
    started = time.monotonic()

    async def person(number: int) -> None:
        await asyncio.sleep(spread * number / clients)
        for _ in range(each):
            transcript = Transcript(plan, outcome.lateness)
            try:
                async with asyncio.timeout_at(deadline):
                    size = await turn(number, transcript)
            except Exception as error:
                outcome.errors.append(f"{type(error).__name__}: {error}")
                return
            outcome.turns.append(transcript)
            outcome.bytes.append(size)

    deadline = asyncio.get_running_loop().time() + timeout
    await asyncio.gather(*(person(number) for number in range(clients)))
    outcome.seconds = time.monotonic() - started
    return outcome


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that `percent` of them do not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")


def generated_prompts(count: int = 500, letters: int = 90) -> list[str]:
    """Short messages of about that length, the same on each run."""
    words = ("price", "chart", "order", "wallet", "report", "summary", "client", "market", "draft", "budget")
    chance = random.Random(7)
    return [" ".join(chance.choices(words, k=letters // 6)) for _ in range(count)]


def prompt(prompts: Sequence[str], client: int, turn: int) -> str:
    """The message a client sends in its n-th turn."""
    return prompts[(client * 31 + turn) % len(prompts)]
