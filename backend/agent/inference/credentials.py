"""Providers' keys at rest: sealed for one account and one provider, opened only where a model is asked."""

from base64 import b64decode
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from backend.agent.inference.registry import Credential
from backend.kit.seal import Sealer

_PURPOSE = "credentials"


def seal_key(sealer: Sealer, account_id: UUID, provider: str, api_key: str) -> bytes:
    """A provider's key as it is stored."""
    return sealer.seal(_PURPOSE, f"{account_id}:{provider}", api_key)


def open_key(sealer: Sealer, account_id: UUID, provider: str, sealed: bytes) -> str:
    """The key that `seal_key` hid."""
    return sealer.open(_PURPOSE, f"{account_id}:{provider}", sealed)


def open_all(
    sealer: Sealer, account_id: UUID, stored: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, Credential]:
    """Stored credentials by provider, each `{sealed: base64 or null, base_url}`, ready for `Models.get_model`."""
    opened = {}
    for provider, row in (stored or {}).items():
        key = open_key(sealer, account_id, provider, b64decode(row["sealed"])) if row["sealed"] else None
        opened[provider] = Credential(api_key=key, base_url=row["base_url"])
    return opened
