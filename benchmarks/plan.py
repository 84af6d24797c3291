"""What the fake model is asked to say, written into the model's name, so that any client can ask for it.

Token `i` is the five characters of `f"{i:04d} "`, so a reader knows which of them are missing, and how late each one is.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Self

MOST_TOKENS = 10_000
_NAME = re.compile(r"fake-t(\d+)-d(\d+)-r(\d+)-k(\d+)(?:-x(\d+))?$")


@dataclass(frozen=True)
class Plan:
    """One answer: `tokens` of them, the first after `delay_ms`, then `per_second` (0 = all at once, in one write).

    `rounds` tool calls come first; token `dropped` is left out, which a reader must notice.
    """

    tokens: int = 100
    delay_ms: int = 0
    per_second: int = 0
    rounds: int = 0
    dropped: int | None = None

    @property
    def name(self) -> str:
        """The model's name that asks for this plan."""
        name = f"fake-t{self.tokens}-d{self.delay_ms}-r{self.per_second}-k{self.rounds}"
        return name if self.dropped is None else f"{name}-x{self.dropped}"

    @classmethod
    def parse(cls, model: str) -> Self:
        """The plan a model's name asks for. Raises `ValueError` for any other name."""
        found = _NAME.search(model)
        if not found:
            raise ValueError(f"not a plan: {model!r}")
        tokens, delay_ms, per_second, rounds, dropped = found.groups()
        if not 1 <= int(tokens) <= MOST_TOKENS:
            raise ValueError(f"between 1 and {MOST_TOKENS} tokens, not {tokens}")
        return cls(
            int(tokens), int(delay_ms), int(per_second), int(rounds), int(dropped) if dropped else None
        )

    def due(self, token: int) -> float:
        """Seconds from the moment the model is asked to the moment it says `token`."""
        return self.delay_ms / 1000 + (token / self.per_second if self.per_second else 0.0)

    @property
    def seconds(self) -> float:
        """How long the model itself takes for the whole answer."""
        return self.due(self.tokens - 1)


@cache
def text_of(tokens: int) -> str:
    """A whole answer of that length."""
    return "".join(f"{token:04d} " for token in range(tokens))
