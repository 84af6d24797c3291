from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.driver import Missing, Outcome, Transcript, drive
from benchmarks.plan import Plan, text_of
from benchmarks.rows import Limit, Row
from benchmarks.targets import Bare, Direct, bare_loop, fake_model

TIMER_SECONDS = 0.005  # timers are exact to a millisecond or two


@pytest.fixture
async def direct(tmp_path: Path) -> AsyncIterator[Direct]:
    async with fake_model(tmp_path) as target:
        yield target


@pytest.fixture
async def bare(direct: Direct, tmp_path: Path) -> AsyncIterator[Bare]:
    async with bare_loop(tmp_path, direct.url) as target:
        yield target


async def turns(target: Direct | Bare, plan: Plan, clients: int = 1, each: int = 1) -> Outcome:
    async def turn(number: int, transcript: Transcript) -> int:
        return await target.turn(number, f"thread-{number}", "hello", transcript)

    return await drive(turn, plan, clients, each, timeout=20)


@pytest.mark.parametrize(
    "plan", [Plan(), Plan(1), Plan(delay_ms=20), Plan(30, delay_ms=20, per_second=500)], ids=str
)
async def test_every_token_the_model_says_is_counted(direct: Direct, plan: Plan) -> None:
    outcome = await turns(direct, plan, clients=3, each=2)
    assert (outcome.errors, outcome.tokens, len(outcome.turns)) == ([], 6 * plan.tokens, 6)
    assert min(outcome.lateness) > -TIMER_SECONDS  # never before its moment
    assert outcome.on_time(due=outcome.tokens) == 1


@pytest.mark.parametrize("per_second", [0, 500])
async def test_a_dropped_token_is_noticed(direct: Direct, per_second: int) -> None:
    outcome = await turns(direct, Plan(30, per_second=per_second, dropped=17))
    assert outcome.turns == []
    assert "'0017" in outcome.errors[0]


async def test_the_last_token_is_missed_too(direct: Direct) -> None:
    outcome = await turns(direct, Plan(30, dropped=29))
    assert outcome.errors == ["Missing: 29 of 30 tokens arrived"]


async def test_the_bare_loop_runs_tool_rounds_and_streams_every_token(bare: Bare) -> None:
    outcome = await turns(bare, Plan(rounds=2), clients=2, each=3)
    assert (outcome.errors, outcome.tokens) == ([], 600)


async def test_a_turn_that_failed_does_not_spoil_the_connection_for_the_next(bare: Bare) -> None:
    assert (await turns(bare, Plan(30, dropped=3))).errors
    assert (await turns(bare, Plan(30))).errors == []


def test_what_a_snapshot_repeats_is_counted_once() -> None:
    transcript = Transcript(Plan(10))
    transcript.start()
    transcript.hear(text_of(10)[:20])
    transcript.set(text_of(10)[:35])
    transcript.hear(text_of(10)[35:])
    transcript.end()
    assert (transcript.tokens, len(transcript.lateness)) == (10, 10)


def test_a_snapshot_that_forgets_is_an_error() -> None:
    transcript = Transcript(Plan(10))
    transcript.hear(text_of(10)[:20])
    with pytest.raises(Missing):
        transcript.set(text_of(10)[:15])


def test_a_row_must_hold_both_its_bounds() -> None:
    row = Row("real", "app_ms", "CPU", "ms", must=Limit(30, of_bare=1.5), aim=Limit(20, of_bare=1))
    assert row.verdict({"app_ms": 18}, {"app_ms": 20}) == "aim"
    assert row.verdict({"app_ms": 28}, {"app_ms": 20}) == "must"
    assert row.verdict({"app_ms": 28}, {"app_ms": 10}) == "missed"
    assert row.verdict({"app_ms": 18}, None) == "missed"
    assert row.verdict(None, {"app_ms": 20}) == ""
