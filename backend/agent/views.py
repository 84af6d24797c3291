"""Rows as watchers and callers see them."""

from collections.abc import Mapping
from typing import Any

from backend.agent.schemas import APPROVAL_FIELDS, MESSAGE_FIELDS, STEP_FIELDS, Run
from backend.services.attachments.schemas import Attached

_RUN = tuple(name for name in Run.model_fields if name not in ("place", "stop_requested"))
_MESSAGE = tuple(name for name in MESSAGE_FIELDS if name != "attachments")
_ATTACHED = tuple(Attached.model_fields)


def message_view(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of messages."""
    files = [{name: file[name] for name in _ATTACHED} for file in row.get("attachments") or ()]
    return {name: row[name] for name in _MESSAGE} | {"tool_calls": row["tool_calls"] or [], "attachments": files}


def step_view(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the journal."""
    return {name: row[name] for name in STEP_FIELDS}


def approval_view(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of approvals."""
    return {name: row[name] for name in APPROVAL_FIELDS}


def run_view(row: Mapping[str, Any], place: int | None = None) -> dict[str, Any]:
    """A row of runs."""
    requested = row["stop_requested"] if "stop_requested" in row else row["stop_requested_at"] is not None
    return {name: row[name] for name in _RUN} | {"place": place, "stop_requested": bool(requested)}
