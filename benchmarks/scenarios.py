"""What is done to a target, and the figures that come of it. Times are ms, CPU is of whole process trees."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.driver import Outcome, Transcript, drive, percentile, prompt
from benchmarks.plan import Plan
from benchmarks.processes import Meter, pss_mb_of
from benchmarks.targets import Target

REAL = Plan(delay_ms=200, per_second=50)
STREAM_RATE = 20
STARTS_PER_SECOND = 50
"""How fast streams begin: well below what the row of turns per second shows, so that the rows of streams show streaming and not starting."""

Figures = dict[str, float]


class Failed(Exception):
    """Some turns went wrong. `figures` are of those that did not, where that still says something."""

    def __init__(self, outcome: Outcome, figures: Figures | None = None) -> None:
        super().__init__(f"{len(outcome.errors)} clients failed, the first: {outcome.errors[0]}")
        self.figures = figures


@dataclass(frozen=True)
class Bench:
    """What all scenarios need. `quick` counts less and proves less; `times` makes more turns of a cheap target."""

    prompts: list[str]
    fake_pid: int
    quick: bool
    times: int = 1

    def meter(self, target: Target) -> Meter:
        """A meter of the target."""
        return Meter(target.roots)

    async def run(
        self,
        target: Target,
        plan: Plan,
        threads: list[str],
        each: int,
        *,
        spread: float = 0.0,
        patience: float = 60.0,
    ) -> Outcome:
        """Each thread's client takes `each` turns. Raises `Failed` when one goes wrong."""
        turns = [0] * len(threads)

        async def turn(number: int, transcript: Transcript) -> int:
            turns[number] += 1
            message = prompt(self.prompts, number, turns[number])
            return await target.turn(number, threads[number], message, transcript)

        timeout = spread + each * plan.seconds + patience
        outcome = await drive(turn, plan, len(threads), each, spread=spread, timeout=timeout)
        if outcome.errors:
            raise Failed(outcome)
        return outcome


Scenario = Callable[[Bench, Target], Awaitable[Figures]]


async def threads_of(target: Target, count: int) -> list[str]:
    """New conversations."""
    return [await target.thread() for _ in range(count)]


def per_turn(spent: Figures, turns: int) -> Figures:
    """CPU ms per turn by group; what a target has not costs nothing."""
    return {f"{group}_ms": seconds / turns * 1000 for group, seconds in spent.items()}


def added(outcome: Outcome) -> Figures:
    """What was added to the model's own time, at the first token and over the whole turn."""
    first = [turn.first_added * 1000 for turn in outcome.turns]
    whole = [turn.whole_added * 1000 for turn in outcome.turns]
    return {
        "first_p50": percentile(first, 50),
        "first_p99": percentile(first, 99),
        "whole_p50": percentile(whole, 50),
        "whole_p99": percentile(whole, 99),
    }


async def plain(bench: Bench, target: Target) -> Figures:
    """16 clients, a model without delay: what a turn costs and how many fit into a second."""
    threads = await threads_of(target, 16)
    await bench.run(target, Plan(), threads, 3)
    threads, each = await threads_of(target, 16), (8 if bench.quick else 25) * bench.times
    meter, fake = bench.meter(target), Meter([bench.fake_pid])
    outcome = await bench.run(target, Plan(), threads, each)
    turns = len(outcome.turns)
    return {
        **per_turn(meter.spent(), turns),
        "fake_ms": per_turn(fake.spent(), turns)["app_ms"],
        "per_second": turns / outcome.seconds,
        "bytes": statistics.mean(outcome.bytes),
    }


async def single(bench: Bench, target: Target) -> Figures:
    """One client alone, a model without delay: what the way there and back takes."""
    threads = await threads_of(target, 1)
    await bench.run(target, Plan(), threads, 10)
    return added(await bench.run(target, Plan(), await threads_of(target, 1), 50 if bench.quick else 200))


async def real(bench: Bench, target: Target) -> Figures:
    """20 clients, 200 ms to the first token, then 50 a second."""
    await bench.run(target, Plan(), await threads_of(target, 20), 1)
    threads, each = await threads_of(target, 20), 2 if bench.quick else 8
    meter = bench.meter(target)
    outcome = await bench.run(target, REAL, threads, each, spread=REAL.seconds)
    return {
        **per_turn(meter.spent(), len(outcome.turns)),
        **added(outcome),
        "bytes": statistics.mean(outcome.bytes),
    }


async def tools(bench: Bench, target: Target) -> Figures:
    """Two rounds of a tool that reads, over a plain turn of as many clients in threads as old: by turns, for the machine's pace changes."""
    each, times = 10, (1 if bench.quick else 6)
    await bench.run(target, Plan(rounds=2), await threads_of(target, 4), 2)
    plans = (Plan(), Plan(rounds=2))
    costs: dict[Plan, list[Figures]] = {plan: [] for plan in plans}
    for _ in range(times):
        for plan in plans:
            threads = await threads_of(target, 4)
            meter = bench.meter(target)
            outcome = await bench.run(target, plan, threads, each)
            costs[plan].append(per_turn(meter.spent(), len(outcome.turns)))
    plain_ms, tools_ms = (statistics.median(cost["app_ms"] for cost in costs[plan]) for plan in plans)
    return {"app_ms": tools_ms, "plain_ms": plain_ms, "over_ms": tools_ms - plain_ms}


async def long_thread(bench: Bench, target: Target) -> Figures:
    """200 turns in each of some threads: what the last ones cost beside the first."""
    await bench.run(target, Plan(), await threads_of(target, 8), 3)
    threads, window = await threads_of(target, 4 if bench.quick else 8), 10
    costs = []
    for each in (window, 200 - 2 * window, window):
        meter = bench.meter(target)
        outcome = await bench.run(target, Plan(), threads, each, patience=200)
        costs.append(per_turn(meter.spent(), len(outcome.turns))["app_ms"])
    first, _, last = costs
    return {"first_ms": first, "last_ms": last, "ratio": last / first if first else float("nan")}


def streams(count: int) -> Scenario:
    """So many answers at once, 20 tokens a second each. CPU per token is taken while all of them flow."""

    async def scenario(bench: Bench, target: Target) -> Figures:
        window, ramp = 5.0 if bench.quick else 10.0, count / STARTS_PER_SECOND
        plan = Plan(int(STREAM_RATE * (ramp + window + 2)), delay_ms=200, per_second=STREAM_RATE)
        threads = await threads_of(target, count)
        outcome = Outcome()

        async def turn(number: int, transcript: Transcript) -> int:
            return await target.turn(number, threads[number], prompt(bench.prompts, number, 0), transcript)

        timeout = ramp + plan.seconds + 60
        driving = asyncio.create_task(
            drive(turn, plan, count, 1, spread=ramp, timeout=timeout, outcome=outcome)
        )
        await asyncio.sleep(ramp + 1)
        meter, fake, seen = bench.meter(target), Meter([bench.fake_pid]), outcome.tokens
        await asyncio.sleep(window)
        spent, fakes, arrived = meter.spent(), fake.spent(), max(outcome.tokens - seen, 1)
        driver = spent.pop("driver")
        await driving
        due = count * plan.tokens
        figures: Figures = {
            "on_time": outcome.on_time(due) * 100,
            "late_p50": percentile(outcome.lateness, 50) * 1000,
            "late_p99": percentile(outcome.lateness, 99) * 1000,
            "token_us": sum(spent.values()) / arrived * 1e6,
            "driver_us": driver / arrived * 1e6,
            "fake_us": fakes["app"] / arrived * 1e6,
            "cores": sum(spent.values()) / meter.seconds,
            "missing": due - outcome.tokens,
        }
        if outcome.errors:
            raise Failed(outcome, figures)
        return figures

    return scenario


async def memory(bench: Bench, target: Target) -> Figures:
    """What a waiting stream holds, and what a thread holds that nobody talks in."""
    count = 200 if bench.quick else 500
    await bench.run(target, Plan(), await threads_of(target, 20), 2)
    before = pss_mb_of(target.roots)["app"]
    threads = await threads_of(target, count)
    after = pss_mb_of(target.roots)["app"]
    ramp = count / STARTS_PER_SECOND
    waiting = Plan(2, delay_ms=int(ramp + 4) * 1000)
    running = asyncio.create_task(bench.run(target, waiting, threads, 1, spread=ramp))
    await asyncio.sleep(ramp + 2)
    streaming = pss_mb_of(target.roots)["app"]
    await running
    return {"stream_kb": (streaming - after) / count * 1000, "thread_kb": (after - before) / count * 1000}


async def idle(bench: Bench, target: Target) -> Figures:
    """Nobody asks anything: memory held and cores used."""
    meter = bench.meter(target)
    await asyncio.sleep(5 if bench.quick else 20)
    spent = meter.spent()
    cores = {f"{group}_cores": used / meter.seconds for group, used in spent.items() if group != "driver"}
    held = {f"{group}_mb": used for group, used in pss_mb_of(target.roots).items()}
    return {**cores, **held}


async def start(bench: Bench, target: Target) -> Figures:
    """What the target noted when it started: wall and CPU until it was ready, its services running already."""
    return dict(target.started)


SCENARIOS: dict[str, Scenario] = {
    "start": start,
    "idle": idle,
    "plain": plain,
    "single": single,
    "memory": memory,
    "real": real,
    "tools": tools,
    "long": long_thread,
    "streams500": streams(500),
    "streams1000": streams(1000),
}
