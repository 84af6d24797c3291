"""Cursor pages: `{items, next_cursor}`, where a cursor is opaque and says where the next page begins."""

import base64
import binascii
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel

from backend.kit.problems import InvalidRequest

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """One page of a list. `next_cursor` is null on the last."""

    items: list[Item]
    next_cursor: str | None = None


def encode_cursor(*keys: Any) -> str:
    """The sort keys of a page's last item as an opaque cursor."""
    return base64.urlsafe_b64encode(orjson.dumps(keys, default=str)).decode().rstrip("=")


def decode_cursor(cursor: str, size: int) -> list[Any]:
    """The sort keys of a cursor made by `encode_cursor`; `InvalidRequest` for anything else."""
    try:
        keys = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, orjson.JSONDecodeError):
        keys = None
    if not isinstance(keys, list) or len(keys) != size:
        raise InvalidRequest("The cursor is not one of ours; start again without it.")
    return keys
