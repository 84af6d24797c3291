"""What an account's export says of agents and threads: agents as the YAML that can be imported, threads as JSON."""

import re
from collections.abc import AsyncIterator

import orjson

from backend.agent import manifest, repository
from backend.agent.config import AgentConfig
from backend.kit.db import Session


async def agents(session: Session) -> AsyncIterator[tuple[str, str]]:
    """Each agent's active configuration."""
    async for rows in repository.exported_agents(session):
        for row in rows:
            yield f"agents/{_name(row['name'])}-{row['agent_id']}.yaml", manifest.write(AgentConfig.model_validate(row["config"]))


async def threads(session: Session) -> AsyncIterator[tuple[str, str]]:
    """Each thread with all its messages, also those of turns that were taken back."""
    async for rows in repository.exported_threads(session):
        for row in rows:
            said = await repository.exported_messages(session, row["thread_id"])
            whole = row["thread"] | {"messages": [one["message"] for one in said]}
            yield f"threads/{row['number']:06}-{_name(row['title'])}.json", orjson.dumps(whole, option=orjson.OPT_INDENT_2).decode()


def _name(text: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^\w]+", "-", text).strip("-")[:60] or "unnamed"
