"""The product as a person starts it: `vibe up` on a data directory of the test's own."""

from collections.abc import Iterator

import pytest

from backend.embedded.directory import DataDirectory
from tests.product import Product


@pytest.fixture
def product(directory: DataDirectory, fresh: None) -> Iterator[Product]:
    """`vibe up`, not started; whatever it starts ends with the test."""
    made = Product(directory.path)
    yield made
    made.close()
