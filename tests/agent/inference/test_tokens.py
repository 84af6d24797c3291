import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.agent.inference.base import ModelInfo, Usage
from backend.agent.inference.pricing import cost_micro_usd
from backend.agent.inference.tokens import estimate_tokens

GPT_4O = ModelInfo("gpt-4o", input_price=2_500_000, output_price=10_000_000, cached_price=1_250_000)

# Texts with the count of the o200k_base tokenizer, taken once.
SAMPLES = [
    (
        "The platform keeps a journal of every step, so that a worker that dies in the middle of a run can be replaced by another one without losing what was already paid for.",
        35,
    ),
    (
        'def total(rows: list[Row], *, since: date) -> int:\n    """Sum of amounts in cents."""\n    return sum(row.amount for row in rows if row.day >= since)\n',
        39,
    ),
    (
        '{"id": "run_17", "status": "done", "usage": {"input_tokens": 1200, "output_tokens": 85}, "tags": ["a", "b"], "cost": null}',
        46,
    ),
    ("智能体在沙盒中运行命令，读取文件，并把结果告诉用户。每一步都会被记录下来。", 25),
    ("エージェントはサンドボックスでコマンドを実行し、ファイルを読みます。", 24),
    ("Агент выполняет команды в песочнице и записывает каждый шаг в журнал.", 18),
    (
        "const total = rows.filter((row) => row.day >= since).reduce((sum, row) => sum + row.amount, 0);\nexport default total;\n",
        33,
    ),
]


@pytest.mark.parametrize(("text", "tokens"), SAMPLES)
def test_estimates_are_within_a_third_of_a_tokenizer(text: str, tokens: int) -> None:
    assert abs(estimate_tokens(text) - tokens) <= tokens / 3


@given(st.text(), st.text())
def test_more_text_is_never_fewer_tokens(a: str, b: str) -> None:
    assert estimate_tokens(a + b) >= estimate_tokens(a)
    assert (estimate_tokens(a) == 0) == (a == "")


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(1_000_000, 0), 2_500_000),
        (Usage(1_000_000, 0, cached_tokens=1_000_000), 1_250_000),
        (Usage(1000, 500, cached_tokens=200), 2000 + 250 + 5000),
        (Usage(1, 0), 3),
        (Usage(0, 0), 0),
        (Usage(10, 1, reasoning_tokens=1), 35),
    ],
)
def test_a_call_s_cost_is_exact_and_rounded_up_once(usage: Usage, cost: int) -> None:
    assert cost_micro_usd(usage, GPT_4O) == cost


def test_a_price_that_is_needed_and_unknown_makes_the_cost_unknown() -> None:
    info = ModelInfo("x", input_price=1, output_price=2)
    assert cost_micro_usd(Usage(10, 10), ModelInfo("x")) is None
    assert cost_micro_usd(Usage(10, 10, cached_tokens=5), info) is None
    assert cost_micro_usd(Usage(10, 10), info) == 1


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), *[st.integers(0, 10**9)] * 3)
def test_costs_are_what_exact_arithmetic_says(
    given: int, made: int, cached: int, a: int, b: int, c: int
) -> None:
    cached = min(cached, given)
    info = ModelInfo("x", input_price=a, output_price=b, cached_price=c)
    exact = (given - cached) * a + cached * c + made * b
    assert 0 <= (cost_micro_usd(Usage(given, made, cached), info) or 0) * 1_000_000 - exact < 1_000_000
