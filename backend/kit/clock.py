"""Time. Lease times are Postgres's clock; this one stamps events and measures durations."""

import time
from datetime import UTC, datetime, timedelta


def now() -> datetime:
    """This moment, aware, in UTC."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """RFC 3339 with milliseconds and `Z`, as the events carry it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def elapsed_ms(since: float) -> int:
    """Whole milliseconds since a `time.perf_counter()` reading."""
    return round((time.perf_counter() - since) * 1000)


def after(moment: datetime, seconds: float) -> datetime:
    """The moment some seconds later."""
    return moment + timedelta(seconds=seconds)
