"""The second place: an api process and a database of its own, whose workers each test starts as it needs them."""

from collections.abc import Iterator

import pytest

from tests.agent.conftest import _apart, ada, apart, apart_database, apart_sql, grace, sql
from tests.wire.webhook_server import WebhookServer

__all__ = ["_apart", "ada", "apart", "apart_database", "apart_sql", "grace", "sql"]


@pytest.fixture
def receiver() -> Iterator[WebhookServer]:
    """A strict receiver of webhooks."""
    with WebhookServer() as server:
        yield server
