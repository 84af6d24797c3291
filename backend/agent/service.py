"""Agents: made, found, copied, taken away; what of their configuration works here; the catalogue of tools as it stands."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from backend.accounts import service as accounts
from backend.accounts.schemas import Feature
from backend.agent import manifest, repository, versions
from backend.agent.config import AgentConfig
from backend.agent.schemas import (
    CATALOGUE,
    PLANNED,
    Agent,
    DraftUpdate,
    OffPart,
    PermissionRule,
    ToolInfo,
    YamlCheck,
)
from backend.kit.db import Row, Session, enqueue
from backend.kit.ids import uuid7
from backend.kit.pages import Page, encode_cursor
from backend.kit.problems import InvalidPayload, InvalidRequest, NotFound

Features = Mapping[str, Feature]
STOP_RUN = "agent.stop"
_NAME_LENGTH = 255
_LONG_YAML = 10_000

# What the overview names and this version cannot do: title and description of tools, then parts of a configuration.
_PLANNED_TOOLS: dict[str, tuple[str, str]] = {
    "web_search": ("Web search", "Search the web and read pages."),
    "browser": ("Browser", "Use web pages in the sandbox's browser."),
    "remote_browser": ("Remote browser", "Use web pages in a browser elsewhere."),
    "data_providers": ("Data providers", "Ask outside services for data."),
    "wallet": ("Wallet", "Hold and send money within limits."),
    "x402": ("x402", "Pay for services on the web."),
}
_NOT_YET = "This version of VIBE AI cannot do it yet. The configuration keeps it."


async def create(
    session: Session, config: AgentConfig, by: UUID, features: Features, *, key: str | None = None
) -> Agent:
    """A new agent; the configuration is its version 1. With an Idempotency-Key asking twice makes one.

    Raises `InvalidPayload` for names that name nothing.
    """
    return await _create(session, check(config), by, features, key)


async def _create(
    session: Session, config: AgentConfig, by: UUID, features: Features, key: str | None
) -> Agent:
    agent_id, is_new = await accounts.claim(session, key, config.content_hash())
    if is_new:
        await repository.add_agent(session, agent_id, uuid7(), config.canonical(), config.content_hash(), by)
    return await read(session, agent_id, features)


async def read(session: Session, agent_id: UUID, features: Features) -> Agent:
    """One agent with its active configuration."""
    row = await repository.agent(session, agent_id)
    if row is None:
        raise NotFound()
    return _agent(row, features)


async def page(
    session: Session, q: str | None, cursor: str | None, limit: int, features: Features
) -> Page[Agent]:
    """Agents, newest first; `q` is a part of the name."""
    before = accounts.decode_moment(cursor)
    rows = await repository.agents(session, _like(q), before, limit + 1)
    more = (
        encode_cursor(rows[limit - 1]["created_at"], rows[limit - 1]["agent_id"])
        if len(rows) > limit
        else None
    )
    return Page(items=[_agent(row, features) for row in rows[:limit]], next_cursor=more)


def _like(q: str | None) -> str | None:
    if not q or not q.strip():
        return None
    escaped = q.strip().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


async def called(session: Session, name: str | None = None) -> list[tuple[UUID, str, datetime]]:
    """Id, name and beginning of the agents of exactly this name, or of all; the oldest first, at most a thousand."""
    rows = await repository.called(session, name)
    return [(row["agent_id"], row["name"], row["created_at"]) for row in rows]


async def delete(session: Session, agent_id: UUID, by: UUID) -> None:
    """Take an agent away and stop its runs; threads with it can still be read."""
    if not await repository.delete_agent(session, agent_id):
        raise NotFound()
    for run_id in await repository.stop_runs(session, agent_id):
        enqueue(session, STOP_RUN, run_id=run_id)
    await accounts.audit(session, by, "agent.deleted", str(agent_id))


async def duplicate(
    session: Session,
    agent_id: UUID,
    name: str | None,
    by: UUID,
    features: Features,
    *,
    key: str | None = None,
) -> Agent:
    """A new agent with the active configuration of this one. With an Idempotency-Key asking twice makes one."""
    config = (await read(session, agent_id, features)).config
    suffix = " (copy)"
    name = name or f"{config.name[: _NAME_LENGTH - len(suffix)]}{suffix}"
    copy = AgentConfig.model_validate(config.canonical() | {"name": name})
    return await _create(session, copy, by, features, key)


def _agent(row: Row, features: Features) -> Agent:
    config = AgentConfig.model_validate(row["config"])
    return Agent(
        agent_id=row["agent_id"],
        name=row["name"],
        config=config,
        active_version=row["active_version"],
        has_draft=row["has_draft"],
        off=off_parts(config, features),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


# Configurations ---------------------------------------------------------------------------------------------------------


def check(config: AgentConfig) -> AgentConfig:
    """The configuration with the overview's names of tools; `InvalidPayload` for names that name nothing."""
    config, mistakes = manifest.checked(config)
    if mistakes:
        errors = [
            {"loc": ".".join(map(str, ("config", *path))), "message": message} for path, message in mistakes
        ]
        raise InvalidPayload(errors[0]["message"], errors=errors)
    return config


async def read_yaml(text: str) -> AgentConfig:
    """The configuration that a YAML says; `InvalidPayload` with the line and column of every mistake."""
    try:
        return await _parsed(text)
    except manifest.InvalidYaml as invalid:
        errors = [error.model_dump() for error in invalid.errors]
        first = invalid.errors[0]
        raise InvalidPayload(
            f"Line {first.line}, column {first.column}: {first.message}", errors=errors
        ) from None


async def _parsed(text: str) -> AgentConfig:
    """A long YAML is read in a thread, so that nobody waits for it but its sender."""
    return manifest.read(text) if len(text) < _LONG_YAML else await asyncio.to_thread(manifest.read, text)


async def check_yaml(text: str) -> YamlCheck:
    """A YAML as it would be written, or what is wrong with it."""
    try:
        config = await _parsed(text)
    except manifest.InvalidYaml as invalid:
        return YamlCheck(config=None, yaml=None, errors=invalid.errors)
    return YamlCheck(config=config, yaml=manifest.write(config), errors=[])


async def config_of(update: DraftUpdate) -> AgentConfig:
    """What a draft is to become: given as a configuration or as YAML, and as one of them only."""
    if (update.config is None) == (update.yaml is None):
        raise InvalidRequest("Send either config or yaml.")
    return check(update.config) if update.config is not None else await read_yaml(update.yaml or "")


async def export(
    session: Session, agent_id: UUID, version: int | None, features: Features
) -> tuple[str, str]:
    """A version's YAML, the active one's when none is named, and a name for its file."""
    if version is not None:
        config = (await versions.read(session, agent_id, version)).config
    else:
        config = (await read(session, agent_id, features)).config
    return manifest.write(config), f"{config.name}.yaml"


# What works here --------------------------------------------------------------------------------------------------------


def tools(features: Features) -> list[ToolInfo]:
    """Every tool that has a name: those that work here, and the others with the reason."""
    sandbox = features["sandbox"]
    off: dict[str, Any] = {} if sandbox.on else {"on": False, "reason": sandbox.reason, "fix": sandbox.fix}
    working = [tool.model_copy(update=off) for tool in CATALOGUE]
    planned = [
        ToolInfo(
            name=name,
            module=module,
            title=_PLANNED_TOOLS[name][0],
            description=_PLANNED_TOOLS[name][1],
            on=False,
            reason=_NOT_YET,
            actions=[],
        )
        for name, module in PLANNED.items()
    ]
    return working + planned


def off_parts(config: AgentConfig, features: Features) -> list[OffPart]:
    """What of a configuration does not work here."""
    by_name = {tool.name: tool for tool in tools(features)}
    used = [by_name[name] for name in config.tools if name in by_name]
    off = [
        OffPart(part=f"tools.{tool.name}", reason=tool.reason, fix=tool.fix) for tool in used if not tool.on
    ]
    not_yet = {
        "knowledge_base": config.knowledge_base is not None and config.knowledge_base.enabled,
        "memory": config.memory is not None and config.memory.enabled,
        "triggers": bool(config.triggers),
        "routing": config.routing is not None and config.routing.strategy is not None,
        "mcp": bool(config.mcp),
        "wallet": config.wallet is not None and config.wallet.enabled,
    }
    return off + [OffPart(part=part, reason=_NOT_YET) for part, wanted in not_yet.items() if wanted]


# Permission rules -------------------------------------------------------------------------------------------------------


async def rules(session: Session, agent_id: UUID, cursor: str | None, limit: int) -> Page[PermissionRule]:
    """An agent's "always" answers, newest first."""
    if await repository.agent(session, agent_id) is None:
        raise NotFound()
    rows = await repository.rules(session, agent_id, accounts.decode_moment(cursor), limit + 1)
    more = (
        encode_cursor(rows[limit - 1]["created_at"], rows[limit - 1]["rule_id"])
        if len(rows) > limit
        else None
    )
    return Page(items=[PermissionRule.model_validate(dict(row)) for row in rows[:limit]], next_cursor=more)


async def delete_rule(session: Session, agent_id: UUID, rule_id: UUID, by: UUID) -> None:
    """Forget an "always" answer: the action asks again."""
    action = await repository.delete_rule(session, agent_id, rule_id)
    if action is None:
        raise NotFound()
    await accounts.audit(
        session, by, "rule.deleted", str(rule_id), {"agent_id": str(agent_id), "action": action}
    )
