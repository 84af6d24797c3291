"""The rows of the table: which figure of which scenario, what it must reach, what is aimed at, what others reach.

The reference figures were measured on another occasion on a machine of this size; they are quoted, not measured again.
"""

from dataclasses import dataclass
from typing import Literal

from benchmarks.scenarios import Figures

Verdict = Literal["aim", "must", "missed", ""]


@dataclass(frozen=True)
class Limit:
    """A bound on a figure, absolute, as a multiple of the bare loop's, or both."""

    value: float | None = None
    of_bare: float | None = None

    def holds(self, figure: float, bare: float | None, *, more_is_better: bool) -> bool:
        """Whether a figure keeps the bound. Without a bare figure its multiple cannot be held."""
        bounds = [self.value] if self.value is not None else []
        if self.of_bare is not None:
            bounds.append(float("nan") if bare is None else self.of_bare * bare)
        return all(figure >= bound if more_is_better else figure <= bound for bound in bounds)

    def text(self, *, more_is_better: bool) -> str:
        """The bound as it is written in the table."""
        sign = "≥" if more_is_better else "≤"
        parts = [f"{sign} {self.value:g}"] if self.value is not None else []
        if self.of_bare is not None:
            parts.append(f"{sign} {self.of_bare:g}× bare")
        return ", ".join(parts)


@dataclass(frozen=True)
class Row:
    """One line. `figure` is a key of what `scenario` gives."""

    scenario: str
    figure: str
    title: str
    unit: str
    must: Limit
    aim: Limit
    reference: str = ""
    more_is_better: bool = False

    def verdict(self, figures: Figures | None, bare: Figures | None) -> Verdict:
        """What a target's figures come to; empty when there are none."""
        if figures is None or self.figure not in figures:
            return ""
        of_bare = bare.get(self.figure) if bare else None
        for verdict, limit in (("aim", self.aim), ("must", self.must)):
            if limit.holds(figures[self.figure], of_bare, more_is_better=self.more_is_better):
                return "aim" if verdict == "aim" else "must"
        return "missed"


ROWS = (
    Row("plain", "app_ms", "CPU per turn, 16 clients, model without delay", "ms", Limit(7.6), Limit(5), "floor 2.4–3.3, agno 61–94"),
    Row("plain", "postgres_ms", "Postgres CPU per turn", "ms", Limit(3), Limit(2), "floor 1.2, agno 13–15"),
    Row(
        "plain", "per_second", "turns per second, 16 clients", "/s", Limit(110, 1), Limit(206, 1), "floor 344, agno 13.7",
        more_is_better=True,
    ),
    Row("plain", "bytes", "bytes to the client per 100 tokens, at once", "B", Limit(6000), Limit(2000), "floor 547, agno 41,322"),
    Row("real", "bytes", "bytes to the client per 100 tokens, one by one", "B", Limit(6000), Limit(6000), "agno 41,322"),
    Row("single", "first_p50", "first token, added, 1 client, p50", "ms", Limit(20), Limit(8), "floor 16, agno 17.8"),
    Row("single", "first_p99", "first token, added, 1 client, p99", "ms", Limit(60), Limit(30)),
    Row("real", "app_ms", "CPU per turn, 20 clients, 50 tokens/s", "ms", Limit(30, 1.5), Limit(20, 1), "floor 15.5–27, agno 100–117"),
    Row("real", "first_p50", "first token, added, 20 clients, p50", "ms", Limit(30), Limit(15), "floor 17, agno 31"),
    Row("real", "whole_p50", "whole turn, added, 20 clients, p50", "ms", Limit(50), Limit(30), "floor 28, agno 220"),
    Row("real", "whole_p99", "whole turn, added, 20 clients, p99", "ms", Limit(150), Limit(100), "floor 134, agno 467"),
    Row("tools", "over_ms", "2 tool rounds, CPU over a plain turn", "ms", Limit(6), Limit(4), "floor 3.5–4.7, langgraph 23–64"),
    Row("long", "ratio", "turn 200 / turn 1, CPU", "×", Limit(1.5), Limit(1.25), "floor 1.14, agno 2.7"),
    Row(
        "streams500", "on_time", "500 streams × 20 tokens/s: on time", "%", Limit(100), Limit(100), "floor 100, agno 6–19",
        more_is_better=True,
    ),
    Row("streams500", "late_p50", "500 streams: lateness p50", "ms", Limit(100), Limit(60), "floor 59, agno 2,200"),
    Row("streams500", "late_p99", "500 streams: lateness p99", "ms", Limit(300), Limit(170), "floor 165, agno 8,000"),
    Row("streams500", "token_us", "500 streams: CPU per token, all processes", "µs", Limit(85), Limit(65), "floor 113–130, agno 950+"),
    Row(
        "streams1000", "on_time", "1000 streams × 20 tokens/s: on time", "%", Limit(95), Limit(100), "floor 90–100, agno 1",
        more_is_better=True,
    ),
    Row("streams1000", "late_p50", "1000 streams: lateness p50", "ms", Limit(), Limit(190), "floor 160–190"),
    Row("streams1000", "late_p99", "1000 streams: lateness p99", "ms", Limit(), Limit(600), "floor 500–585"),
    Row("streams1000", "token_us", "1000 streams: CPU per token, all processes", "µs", Limit(85), Limit(65), "floor 67–87"),
    Row("memory", "stream_kb", "memory per open stream", "kB", Limit(80), Limit(50), "floor 42–48"),
    Row("memory", "thread_kb", "memory per idle thread", "kB", Limit(1), Limit(1)),
    Row("idle", "app_mb", "memory held idle, API + worker", "MB", Limit(220), Limit(160), "floor 95, agno 143"),
    Row("idle", "app_cores", "cores used idle, API + worker", "", Limit(0.01), Limit(0.005)),
    Row("start", "wall_s", "API ready, services up: wall", "s", Limit(4), Limit(2.5), "floor 1.2, agno 13–22"),
    Row("start", "cpu_s", "API ready, services up: CPU", "s", Limit(4), Limit(2.5), "floor 1.7, agno 7.5"),
)  # fmt: skip
