"""What a call costs, in whole micro-USD."""

from backend.agent.inference.base import ModelInfo, Usage

_MILLION = 1_000_000


def cost_micro_usd(usage: Usage, info: ModelInfo) -> int | None:
    """The price of a call, multiplied out exactly and rounded up once. None when a price it needs is unknown."""
    cached = min(usage.cached_tokens, usage.input_tokens)
    parts = (
        (usage.input_tokens - cached, info.input_price),
        (cached, info.cached_price),
        (usage.output_tokens, info.output_price),
    )
    total = 0
    for tokens, price in parts:
        if not tokens:
            continue
        if price is None:
            return None
        total += tokens * price
    return -(-total // _MILLION)
