"""`vibe doctor`: what works on this machine, and how to mend what does not."""

import asyncio
import platform
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import asyncpg
import redis.asyncio as aioredis

from backend.cli.environment import ROOT
from backend.cli.place import Place
from backend.embedded.errors import EmbeddedError
from backend.embedded.programs import postgres_binaries, valkey_binary
from backend.kit.db import LOST, connect, driver_address
from backend.kit.disk import Disk
from backend.kit.problems import DiskFull
from backend.kit.redis import LOST as REDIS_LOST
from backend.kit.settings import Settings
from backend.sandbox.bubblewrap import Bubblewrap

State = Literal["ok", "off", "broken"]


@dataclass(frozen=True)
class Finding:
    """One part: `ok`, `off` (the product starts without it) or `broken`; `fix` is what to do."""

    part: str
    state: State
    detail: str
    fix: str = ""


def _python(_: Settings) -> Finding:
    return Finding("python", "ok", platform.python_version())


async def _sandbox(settings: Settings) -> Finding:
    """Whether a sandbox can be started and runs a command."""
    if settings.vibe_sandbox == "off":
        return Finding("sandbox", "off", "VIBE_SANDBOX=off", "Unset VIBE_SANDBOX to let agents use tools.")
    found = await Bubblewrap(settings.vibe_data_dir / "scratch").check()
    return Finding("sandbox", "ok" if found.ok else "off", found.reason or "bubblewrap runs commands", found.fix)


async def _database(settings: Settings) -> Finding:
    place = Place(settings, say=lambda _: None)
    if settings.database_url is None and not place.directory.held():
        try:
            postgres_binaries()
        except EmbeddedError as error:
            return Finding("database", "broken", str(error), "Set DATABASE_URL.")
        return Finding("database", "ok", "embedded Postgres, not running")
    dsn = settings.database_url.get_secret_value() if settings.database_url else place.postgres().url
    try:
        connection = await connect(dsn, timeout=5)
    except (*LOST, asyncpg.PostgresError) as error:
        return Finding("database", "broken", str(error), "Look at DATABASE_URL, and whether the server runs.")
    try:
        version = await connection.fetchval("SHOW server_version")
        vector = await connection.fetchval("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")
    finally:
        await connection.close()
    if not vector:
        return Finding("database", "broken", f"Postgres {version} without pgvector", "Install the extension `vector` on the server.")
    pooled = ", behind a pooler of transactions: without prepared statements" if driver_address(dsn)[1] else ""
    return Finding("database", "ok", f"Postgres {version}{pooled}" + ("" if settings.database_url else ", embedded"))


async def _valkey(settings: Settings) -> Finding:
    place = Place(settings, say=lambda _: None)
    dsn = settings.redis_dsn
    if dsn is None and not place.directory.held():
        try:
            valkey_binary()
        except EmbeddedError as error:
            return Finding("valkey", "broken", str(error), "Set REDIS_URL.")
        return Finding("valkey", "ok", "embedded, not running")
    client = aioredis.from_url(dsn or place.valkey().url, socket_connect_timeout=5, socket_timeout=5)
    try:
        info = await client.info("server")
        return Finding("valkey", "ok", f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}")
    except REDIS_LOST as error:
        return Finding("valkey", "broken", str(error), "Look at REDIS_URL, and whether the server runs.")
    finally:
        await client.aclose()


def _pages(_: Settings) -> Finding:
    if (ROOT / "frontend" / "out" / "index.html").exists():
        return Finding("web pages", "ok", "built")
    return Finding("web pages", "off", "not built; the API works without them", "make up")


def _disk(settings: Settings) -> Finding:
    disk = Disk(settings.vibe_data_dir, settings.vibe_min_free_mb)
    detail = f"{disk.free_bytes() // 1_000_000} MB free at {settings.vibe_data_dir}"
    try:
        disk.check()
    except DiskFull:
        return Finding("disk", "broken", detail, f"Free some space: below {settings.vibe_min_free_mb} MB new work is refused.")
    return Finding("disk", "ok", detail)


def _models(settings: Settings) -> Finding:
    keys = {"OpenAI": settings.openai_api_key, "OpenRouter": settings.openrouter_api_key, "custom": settings.custom_base_url}
    found = [name for name, value in keys.items() if value]
    if found:
        return Finding("models", "ok", ", ".join(found) + " from the environment")
    return Finding("models", "off", "no key in the environment; the scripted demonstration model answers", "Add a provider in Settings.")


def _supabase(settings: Settings) -> Finding | None:
    if settings.supabase_url is None:
        return None
    where = "DATABASE_URL" if settings.database_url else "the embedded Postgres"
    fixes = [] if settings.database_url else ["To keep data in Supabase, set DATABASE_URL to its connection string (Project > Connect)."]
    if settings.supabase_anon_key is None:
        detail = f"SUPABASE_URL is set, but not SUPABASE_ANON_KEY, so nobody can sign in; data lie in {where}"
        return Finding("supabase", "broken", detail, " ".join(["Set SUPABASE_ANON_KEY (Project > API keys).", *fixes]))
    return Finding("supabase", "off" if fixes else "ok", f"SUPABASE_URL is set; data lie in {where}", " ".join(fixes))


CHECKS: tuple[Callable[[Settings], Finding | Awaitable[Finding] | None], ...] = (
    _python, _sandbox, _database, _valkey, _pages, _disk, _models, _supabase,
)  # fmt: skip


async def examine(settings: Settings) -> list[Finding]:
    """Every check's finding."""
    findings = []
    for check in CHECKS:
        found = check(settings)
        found = await found if asyncio.iscoroutine(found) else found
        if isinstance(found, Finding):
            findings.append(found)
    return findings
