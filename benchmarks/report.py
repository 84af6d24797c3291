"""Writes what was measured: a Markdown table, a JSON file, and the marked block of README.md."""

import json
import math
import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from benchmarks.processes import ROOT
from benchmarks.rows import ROWS, Row
from benchmarks.scenarios import Figures

HERE = Path(__file__).parent
BLOCK = re.compile(r"(<!-- figures -->\n).*(<!-- /figures -->)", re.DOTALL)
WORDS = {"aim": "✓ aim", "must": "✓ must", "missed": "✗ missed", "": "–"}
HEAD = "| measure | product | bare loop | product / bare | must | aim | | others |\n|---|--:|--:|--:|---|---|---|---|"


@dataclass
class Report:
    """One run: `figures` and `errors` by target and scenario."""

    date: str
    commit: str
    machine: str
    load_before: float
    prompts: str
    quick: bool
    figures: dict[str, dict[str, Figures]] = field(default_factory=dict)
    errors: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def begin(cls, prompts: str, *, quick: bool) -> Self:
        """A report of what is measured now, on this machine, of this commit."""
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        return cls(now, commit(), machine, round(os.getloadavg()[0], 2), prompts, quick)

    @property
    def complete(self) -> bool:
        """Whether nothing went wrong with the product. The bare loop may break under a load it was not made for."""
        return not self.errors.get("product")

    def markdown(self, only: set[str]) -> str:
        """The table of the rows whose scenario is in `only`, with what the figures rest on."""
        head = f"{self.date}, commit {self.commit}, {self.machine}, load before {self.load_before}, {self.prompts}"
        lines = [head + (", quick run" if self.quick else ""), "", HEAD]
        lines += [self._line(row) for row in ROWS if row.scenario in only]
        lines += ["", self._measuring()] if "fake model" in self.figures else []
        for target, errors in self.errors.items():
            lines += [f"- {target}, {scenario}: {why}" for scenario, why in errors.items()]
        return "\n".join(lines) + "\n"

    def _line(self, row: Row) -> str:
        product, bare = (
            self.figures.get(target, {}).get(row.scenario) for target in ("product", "bare loop")
        )
        cells = [number(figures.get(row.figure) if figures else None) for figures in (product, bare)]
        ratio = "–"
        if product and bare and row.figure in product and bare.get(row.figure):
            ratio = f"{product[row.figure] / bare[row.figure]:.2f}"
        failed = row.scenario in self.errors.get("product", {})
        verdict = "✗ error" if failed else WORDS[row.verdict(product, bare)]
        limits = [limit.text(more_is_better=row.more_is_better) or "–" for limit in (row.must, row.aim)]
        unit = f", {row.unit}" if row.unit else ""
        return f"| {row.title}{unit} | {' | '.join([*cells, ratio, *limits, verdict, row.reference])} |"

    def _measuring(self) -> str:
        """What the measuring itself costs and could carry."""
        own = self.figures["fake model"]
        parts = []
        if turns := own.get("plain"):
            parts.append(
                f"{turns['per_second']:.0f} turns/s with nobody between, {turns['app_ms']:.2f} ms CPU of the fake model a turn "
                f"(alone it could carry {1000 / max(turns['app_ms'], 0.01):.0f}/s), {turns['driver_ms']:.2f} ms of the driver"
            )
        for name in ("streams500", "streams1000"):
            if tokens := own.get(name):
                parts.append(
                    f"{name.removeprefix('streams')} streams {tokens['on_time']:.1f} % on time, lateness p99 "
                    f"{tokens['late_p99']:.1f} ms, a token {tokens['fake_us']:.0f} µs of the fake model and "
                    f"{tokens['driver_us']:.0f} µs of the driver"
                )
        return f"The measuring itself: {'; '.join(parts)}." if parts else ""

    def save(self) -> Path:
        """The whole run as JSON, under results/."""
        path = HERE / "results" / f"{self.date[:10]}-{self.commit.replace('+', '-changed')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path


def number(value: float | None) -> str:
    """Three digits that matter; a dash for what was not measured."""
    if value is None or math.isnan(value):
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def commit() -> str:
    """The commit that is measured, with a `+` when the product's files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (
            "+" if git("status", "--porcelain", "backend", "benchmarks") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_block(table: str) -> None:
    """Put a table into the marked block of README.md."""
    readme = HERE / "README.md"
    readme.write_text(BLOCK.sub(lambda found: f"{found[1]}{table}{found[2]}", readme.read_text()))
