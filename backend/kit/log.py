"""Structured logs: one JSON object a line, with the ids of the request and run in whose name it is written."""

import contextvars
import logging
import sys
from typing import Any

import orjson

from backend.kit import clock

request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)
run_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("run_id", default=None)

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record as one JSON line; what is passed in `extra` become members."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"at": clock.iso(clock.now()), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if (request := request_id.get()) is not None:
            line["request_id"] = request
        if (run := run_id.get()) is not None:
            line["run_id"] = run
        line |= {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure(level: str = "info") -> None:
    """Send all logs to standard error as JSON lines, from `level` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("dramatiq", "asyncio", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
