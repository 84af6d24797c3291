"""An agent's drafts and versions: one draft that may change, versions that never do, and one of them active."""

import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from backend.agent import manifest, repository
from backend.agent.config import AgentConfig
from backend.agent.schemas import AgentVersion, Diff, Draft
from backend.kit.db import Row, Session
from backend.kit.ids import uuid7
from backend.kit.pages import Page, decode_cursor, encode_cursor
from backend.kit.problems import InvalidRequest, NotFound, StaleVersion

DRAFT = "draft"


async def read_draft(session: Session, agent_id: UUID) -> tuple[Draft, str]:
    """The draft, or the active configuration while there is none; and its tag."""
    row = _found(await repository.draft(session, agent_id))
    config = AgentConfig.model_validate(row["config"])
    draft = Draft(
        agent_id=agent_id,
        exists=row["revision"] is not None,
        revision=row["revision"] or 0,
        based_on=row["active_version"],
        config=config,
        yaml=manifest.write(config),
        updated_at=row["updated_at"],
    )
    return draft, _tag(row, config)


def _tag(row: Row, config: AgentConfig) -> str:
    """Names exactly this state. The content is in it, for after a discarded draft the revisions count from one again."""
    state = f"{row['revision'] or 0}:{row['active_version']}:".encode() + config.content_hash()
    return f'"{hashlib.sha256(state).hexdigest()[:24]}"'


async def save_draft(
    session: Session, agent_id: UUID, config: AgentConfig, by: UUID, if_match: str | None
) -> tuple[Draft, str]:
    """Make this the draft. Raises `StaleVersion` with the present state when it is not the one that was read."""
    await _lock_and_match(session, agent_id, if_match)
    await repository.save_draft(session, agent_id, config.canonical(), by)
    return await read_draft(session, agent_id)


async def discard_draft(session: Session, agent_id: UUID, if_match: str | None) -> None:
    """Forget the draft. Raises `StaleVersion` with the present state when it is not the one that was read."""
    await _lock_and_match(session, agent_id, if_match)
    await repository.drop_draft(session, agent_id)


async def _lock_and_match(session: Session, agent_id: UUID, if_match: str | None) -> None:
    if not await repository.lock_agent(session, agent_id):
        raise NotFound()
    if if_match is None or if_match.strip() == "*":
        return
    current, tag = await read_draft(session, agent_id)
    if tag not in [given.strip().removeprefix("W/") for given in if_match.split(",")]:
        raise StaleVersion(
            "Nothing was saved. `current` is what stands there now.",
            headers={"ETag": tag},
            current=current.model_dump(mode="json"),
        )


async def publish(session: Session, agent_id: UUID, note: str, by: UUID) -> AgentVersion:
    """Make the draft a version and activate it. A configuration that was published before is that version again."""
    if not await repository.lock_agent(session, agent_id):
        raise NotFound()
    row = _found(await repository.draft(session, agent_id))
    config = AgentConfig.model_validate(row["config"])
    number = await repository.add_version(
        session, agent_id, uuid7(), config.canonical(), config.content_hash(), note, by
    )
    await repository.drop_draft(session, agent_id)
    return await activate(session, agent_id, number)


async def activate(session: Session, agent_id: UUID, number: int) -> AgentVersion:
    """Make a version the active one: forward, or back. A draft stays as it is."""
    if not await repository.activate(session, agent_id, number):
        raise NotFound()
    return await read(session, agent_id, number)


async def read(session: Session, agent_id: UUID, number: int) -> AgentVersion:
    """One version."""
    return _version(_found(await repository.version(session, agent_id, number)))


async def page(session: Session, agent_id: UUID, cursor: str | None, limit: int) -> Page[AgentVersion]:
    """Versions, newest first."""
    before = _number(decode_cursor(cursor, 1)[0]) if cursor is not None else None
    rows = await repository.versions(session, agent_id, before, limit + 1)
    if not rows and before is None:
        raise NotFound()
    more = encode_cursor(rows[limit - 1]["number"]) if len(rows) > limit else None
    return Page(items=[_version(row) for row in rows[:limit]], next_cursor=more)


async def diff(session: Session, agent_id: UUID, number: int, against: str) -> Diff:
    """What changes from version `number` to `against`, which is another number or `draft`."""
    old = await read(session, agent_id, number)
    if against == DRAFT:
        new, name = (await read_draft(session, agent_id))[0].config, "draft"
    else:
        other = _number(against)
        new, name = (await read(session, agent_id, other)).config, f"version {other}"
    old_name = f"version {number}"
    return Diff(old=old_name, new=name, diff=manifest.diff(old.config, new, old_name, name))


def _number(given: Any) -> int:
    text = str(given)
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise InvalidRequest(f"A version is a number, or `{DRAFT}`.")
    return int(text)


def _version(row: Mapping[str, Any]) -> AgentVersion:
    return AgentVersion.model_validate(dict(row))


def _found(row: Row | None) -> Row:
    if row is None:
        raise NotFound()
    return row
