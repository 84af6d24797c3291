"""Queries of agents, their drafts and versions, permission rules, and what an account set about models."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from backend.kit.db import Row, Session

# Agents -----------------------------------------------------------------------------------------------------------------

_AGENT = """
    SELECT a.agent_id, a.name, a.active_version, a.created_at, a.updated_at, v.config, d.agent_id IS NOT NULL AS has_draft
    FROM agents a JOIN agent_versions v ON v.agent_id = a.agent_id AND v.number = a.active_version
         LEFT JOIN agent_drafts d ON d.agent_id = a.agent_id
    WHERE a.deleted_at IS NULL"""

# The overview's columns of `agents` from a configuration `c`.
_COLUMNS = """
    c->>'name' AS name, coalesce(c->>'system_prompt', '') AS system_prompt, coalesce(c->'tools', '[]') AS tools,
    left(CASE WHEN c->'model' ? 'provider' AND c->'model' ? 'name' THEN (c->'model'->>'provider') || '/' || (c->'model'->>'name') ELSE '' END, 100)
        AS model_name"""


async def add_agent(
    session: Session,
    agent_id: UUID,
    version_id: UUID,
    config: Mapping[str, Any],
    content_hash: bytes,
    by: UUID,
) -> None:
    """An agent with its first version, which is active."""
    sql = f"""
        WITH new AS (SELECT {_COLUMNS} FROM (SELECT $4::jsonb AS c) given),
             agent AS (INSERT INTO agents (agent_id, account_id, name, system_prompt, model_name, tools)
                       SELECT $1, $2, name, system_prompt, model_name, tools FROM new)
        INSERT INTO agent_versions (version_id, agent_id, account_id, number, content_hash, config, created_by)
        VALUES ($3, $1, $2, 1, $5, $4, $6)"""
    await session.execute(sql, agent_id, session.account_id, version_id, config, content_hash, by)


async def agent(session: Session, agent_id: UUID) -> Row | None:
    """An agent with its active configuration."""
    return await session.row(f"{_AGENT} AND a.agent_id = $1", agent_id)


async def agents(
    session: Session, like: str | None, before: tuple[datetime, UUID] | None, limit: int
) -> list[Row]:
    """Agents, newest first; `like` is a pattern of ILIKE for the name."""
    at, id = before or (None, None)
    sql = f"""{_AGENT} AND ($1::text IS NULL OR a.name ILIKE $1)
        AND ($2::timestamptz IS NULL OR (a.created_at, a.agent_id) < ($2, $3))
        ORDER BY a.created_at DESC, a.agent_id DESC LIMIT $4"""
    return await session.fetch(sql, like, at, id, limit)


async def called(session: Session, name: str | None) -> list[Row]:
    """Agents of exactly this name, or all of them, oldest first."""
    sql = """SELECT agent_id, name, created_at FROM agents WHERE deleted_at IS NULL AND ($1::text IS NULL OR name = $1)
        ORDER BY created_at, agent_id LIMIT 1000"""
    return await session.fetch(sql, name)


async def delete_agent(session: Session, agent_id: UUID) -> bool:
    """Take an agent away; what it did stays."""
    sql = (
        "UPDATE agents SET deleted_at = now(), updated_at = now() WHERE agent_id = $1 AND deleted_at IS NULL"
    )
    return await session.execute(sql, agent_id) == 1


async def stop_runs(session: Session, agent_id: UUID) -> list[UUID]:
    """Ask every run of an agent that has not ended to stop; their ids."""
    sql = """
        UPDATE runs SET stop_requested_at = coalesce(stop_requested_at, clock_timestamp()), wake_at = clock_timestamp()
        WHERE agent_id = $1 AND status IN ('queued', 'running', 'waiting_approval') RETURNING run_id"""
    return [row["run_id"] for row in await session.fetch(sql, agent_id)]


async def lock_agent(session: Session, agent_id: UUID) -> bool:
    """Wait for others who change this agent, its draft or its versions; false when it is not there."""
    sql = "SELECT 1 FROM agents WHERE agent_id = $1 AND deleted_at IS NULL FOR UPDATE"
    return await session.value(sql, agent_id) is not None


# Drafts -----------------------------------------------------------------------------------------------------------------


async def draft(session: Session, agent_id: UUID) -> Row | None:
    """The draft, or the active configuration while there is none (`revision` null)."""
    sql = """
        SELECT a.agent_id, a.active_version, d.revision, coalesce(d.config, v.config) AS config, coalesce(d.updated_at, v.created_at) AS updated_at
        FROM agents a JOIN agent_versions v ON v.agent_id = a.agent_id AND v.number = a.active_version
             LEFT JOIN agent_drafts d ON d.agent_id = a.agent_id
        WHERE a.agent_id = $1 AND a.deleted_at IS NULL"""
    return await session.row(sql, agent_id)


async def save_draft(session: Session, agent_id: UUID, config: Mapping[str, Any], by: UUID) -> None:
    """Make this the draft."""
    sql = """
        INSERT INTO agent_drafts (agent_id, account_id, config, updated_by) VALUES ($1, $2, $3::jsonb, $4)
        ON CONFLICT (agent_id) DO UPDATE
        SET config = excluded.config, updated_by = excluded.updated_by, revision = agent_drafts.revision + 1, updated_at = clock_timestamp()"""
    await session.execute(sql, agent_id, session.account_id, config, by)


async def drop_draft(session: Session, agent_id: UUID) -> None:
    """Forget the draft."""
    await session.execute("DELETE FROM agent_drafts WHERE agent_id = $1", agent_id)


# Versions ---------------------------------------------------------------------------------------------------------------

_VERSION = """
    SELECT v.version_id, v.agent_id, v.number, v.number = a.active_version AS active, encode(v.content_hash, 'hex') AS content_hash,
           v.note, v.config, v.created_at
    FROM agent_versions v JOIN agents a ON a.agent_id = v.agent_id AND a.deleted_at IS NULL
    WHERE v.agent_id = $1"""


async def version(session: Session, agent_id: UUID, number: int) -> Row | None:
    """One version."""
    return await session.row(f"{_VERSION} AND v.number = $2", agent_id, number)


async def versions(session: Session, agent_id: UUID, before: int | None, limit: int) -> list[Row]:
    """Versions, newest first."""
    sql = f"{_VERSION} AND ($2::int IS NULL OR v.number < $2) ORDER BY v.number DESC LIMIT $3"
    return await session.fetch(sql, agent_id, before, limit)


async def add_version(
    session: Session,
    agent_id: UUID,
    version_id: UUID,
    config: Mapping[str, Any],
    content_hash: bytes,
    note: str,
    by: UUID,
) -> int:
    """The number of the version with this content: a new one, or the one that has it already."""
    sql = """
        INSERT INTO agent_versions (version_id, agent_id, account_id, number, content_hash, config, note, created_by)
        SELECT $2, $1, $3, coalesce(max(number), 0) + 1, $4, $5::jsonb, $6, $7 FROM agent_versions WHERE agent_id = $1
        ON CONFLICT (agent_id, content_hash) DO NOTHING RETURNING number"""
    number = await session.value(
        sql, agent_id, version_id, session.account_id, content_hash, config, note, by
    )
    if number is None:
        sql = "SELECT number FROM agent_versions WHERE agent_id = $1 AND content_hash = $2"
        number = await session.value(sql, agent_id, content_hash)
    return int(number)


async def activate(session: Session, agent_id: UUID, number: int) -> bool:
    """Make a version the active one: its number and the overview's columns are one statement. False when there is no such version."""
    sql = f"""
        UPDATE agents SET active_version = $2, name = new.name, system_prompt = new.system_prompt, model_name = new.model_name,
            tools = new.tools, updated_at = clock_timestamp()
        FROM (SELECT {_COLUMNS} FROM (SELECT config AS c FROM agent_versions WHERE agent_id = $1 AND number = $2) chosen) new
        WHERE agent_id = $1 AND deleted_at IS NULL"""
    return await session.execute(sql, agent_id, number) == 1


# Permission rules -------------------------------------------------------------------------------------------------------


async def rules(
    session: Session, agent_id: UUID, before: tuple[datetime, UUID] | None, limit: int
) -> list[Row]:
    """An agent's "always" answers, newest first."""
    at, id = before or (None, None)
    sql = """
        SELECT rule_id, action, pattern, decision, created_at FROM permission_rules
        WHERE agent_id = $1 AND ($2::timestamptz IS NULL OR (created_at, rule_id) < ($2, $3))
        ORDER BY created_at DESC, rule_id DESC LIMIT $4"""
    return await session.fetch(sql, agent_id, at, id, limit)


async def delete_rule(session: Session, agent_id: UUID, rule_id: UUID) -> str | None:
    """Forget a rule; its action, or None when there is no such rule."""
    sql = "DELETE FROM permission_rules WHERE agent_id = $1 AND rule_id = $2 RETURNING action"
    action: str | None = await session.value(sql, agent_id, rule_id)
    return action


# Models: keys, prices, the default ----------------------------------------------------------------------------------------


async def credentials(session: Session) -> list[Row]:
    """What the account stored for providers; keys are sealed."""
    return await session.fetch(
        "SELECT provider, sealed, base_url, hint, tested_at, test_ok, test_detail FROM credentials ORDER BY provider"
    )


async def save_credential(
    session: Session, provider: str, sealed: bytes | None, base_url: str | None, hint: str
) -> None:
    """Store a provider's key and address; what an earlier test said does not hold for them."""
    sql = """
        INSERT INTO credentials (account_id, provider, sealed, base_url, hint) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (account_id, provider) DO UPDATE SET sealed = excluded.sealed, base_url = excluded.base_url, hint = excluded.hint,
            tested_at = NULL, test_ok = NULL, test_detail = '', updated_at = now()"""
    await session.execute(sql, session.account_id, provider, sealed, base_url, hint)


async def note_test(session: Session, provider: str, ok: bool, detail: str) -> None:
    """Remember what a test of the stored credential said."""
    sql = "UPDATE credentials SET tested_at = now(), test_ok = $2, test_detail = $3 WHERE provider = $1"
    await session.execute(sql, provider, ok, detail)


async def delete_credential(session: Session, provider: str) -> bool:
    """Forget what the account stored for a provider."""
    return await session.execute("DELETE FROM credentials WHERE provider = $1", provider) == 1


async def prices(session: Session) -> list[Row]:
    """Prices the account set."""
    return await session.fetch("SELECT model, input_price, output_price, cached_price FROM model_prices")


async def save_price(
    session: Session, model: str, input_price: int | None, output_price: int | None, cached_price: int | None
) -> None:
    """Set a model's prices; all unknown forgets them."""
    if input_price is None and output_price is None and cached_price is None:
        await session.execute("DELETE FROM model_prices WHERE model = $1", model)
        return
    sql = """
        INSERT INTO model_prices (account_id, model, input_price, output_price, cached_price) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (account_id, model) DO UPDATE SET input_price = excluded.input_price, output_price = excluded.output_price,
            cached_price = excluded.cached_price, updated_at = now()"""
    await session.execute(sql, session.account_id, model, input_price, output_price, cached_price)


async def default_model(session: Session) -> str | None:
    """The model of agents that name none, as the account chose it."""
    chosen: str | None = await session.value(
        "SELECT default_model FROM accounts WHERE account_id = $1", session.account_id
    )
    return chosen


async def set_default_model(session: Session, model: str | None) -> None:
    """Choose the model of agents that name none."""
    await session.execute(
        "UPDATE accounts SET default_model = $2, updated_at = now() WHERE account_id = $1",
        session.account_id,
        model,
    )


# Export -----------------------------------------------------------------------------------------------------------------


def exported_agents(session: Session) -> AsyncIterator[list[Row]]:
    """Every agent with its active configuration, oldest first, in batches."""
    return session.stream(f"{_AGENT} ORDER BY a.created_at, a.agent_id")


def exported_threads(session: Session) -> AsyncIterator[list[Row]]:
    """Every thread that is not deleted, in batches: its number, title, and all of it as `thread`."""
    sql = """
        SELECT t.thread_id, t.number, t.title, to_jsonb(t) - 'account_id' AS thread FROM threads t
        WHERE t.deleted_at IS NULL ORDER BY t.number"""
    return session.stream(sql)


async def exported_messages(session: Session, thread_id: UUID) -> list[Row]:
    """All messages of a thread in the order they got their place; what waits comes last."""
    sql = """
        SELECT to_jsonb(m) - '{account_id,search}'::text[] AS message FROM messages m
        WHERE m.thread_id = $1 ORDER BY m.seq NULLS LAST, m.created_at"""
    return await session.fetch(sql, thread_id)
