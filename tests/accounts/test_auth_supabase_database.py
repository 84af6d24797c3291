"""Our tables in Supabase's own Postgres, where its API stands beside ours: what its roles may see there."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from backend.kit.migrations import migrate
from tests.conftest import Servers
from tests.people import Person, add_person

NAME = "supabase_like"
# What Supabase does to a new project, as far as it matters here.
PROJECT = """
    CREATE SCHEMA auth;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
        AS $$ SELECT nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')::uuid $$;
    GRANT USAGE ON SCHEMA auth, public TO anon, authenticated;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated;
"""
READABLE = {"accounts", "memberships", "agents", "agent_versions", "threads", "messages", "runs", "run_steps", "approvals"}


@pytest.fixture
async def dsn(servers: Servers) -> AsyncIterator[str]:
    """A database as a Supabase project has it, with every migration applied, twice."""
    dsn = urlunsplit(urlsplit(servers.admin_dsn)._replace(path=f"/{NAME}"))
    password = urlsplit(servers.dsn).password
    assert password is not None
    admin = await asyncpg.connect(servers.admin_dsn)
    await admin.execute("CREATE ROLE anon NOLOGIN; CREATE ROLE authenticated NOLOGIN")
    try:
        await admin.execute(f"CREATE DATABASE {NAME}")
        project = await asyncpg.connect(dsn)
        await project.execute(PROJECT)
        await project.execute("SET client_min_messages = error; CREATE PUBLICATION supabase_realtime")
        await migrate(dsn, password)
        await project.execute("CREATE TABLE somebody_elses (n integer)")
        await migrate(dsn, password)
        await project.close()
        yield dsn
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        await admin.execute("DROP ROLE anon; DROP ROLE authenticated")
        await admin.close()


async def add_thread(admin: Any, person: Person) -> None:
    agent, thread = uuid4(), uuid4()
    await admin.execute("INSERT INTO agents (agent_id, account_id, name) VALUES ($1, $2, 'A')", agent, person.account_id)
    thread_row = "INSERT INTO threads (thread_id, agent_id, account_id, number) VALUES ($1, $2, $3, 1)"
    await admin.execute(thread_row, thread, agent, person.account_id)
    message = "INSERT INTO messages (message_id, thread_id, account_id, seq, role, content) VALUES ($1, $2, $3, 1, 'user', 'hello')"
    await admin.execute(message, uuid4(), thread, person.account_id)


async def seen_by(admin: Any, role: str, subject: UUID | None, sql: str) -> list[Any]:
    """The first column of what a role of Supabase's API sees, in the name of a user of the project."""
    async with admin.transaction():
        await admin.execute(f"SET LOCAL ROLE {role}")
        await admin.execute("SELECT set_config('request.jwt.claims', $1, true)", json.dumps({"sub": str(subject or "")}))
        return [row[0] for row in await admin.fetch(sql)]


async def test_direct_access_is_to_the_accounts_one_is_a_member_of_and_reads_alone(dsn: str) -> None:
    ada, bob = await add_person(dsn, "ada@example.org"), await add_person(dsn, "bob@example.org")
    hers, his = uuid4(), uuid4()
    admin = await asyncpg.connect(dsn)
    try:
        for person, subject in ((ada, hers), (bob, his)):
            await add_thread(admin, person)
            await admin.execute("INSERT INTO identities VALUES ('supabase', $1, $2)", str(subject), person.user_id)
        for table in READABLE - {"agent_versions", "runs", "run_steps", "approvals"}:
            rows = f"SELECT account_id FROM {table}"
            assert set(await seen_by(admin, "authenticated", hers, rows)) == {ada.account_id}, table
            assert set(await seen_by(admin, "authenticated", his, rows)) == {bob.account_id}, table
            assert await seen_by(admin, "authenticated", uuid4(), rows) == [], table
            assert await seen_by(admin, "authenticated", None, rows) == [], table
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await seen_by(admin, "anon", hers, rows)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await seen_by(admin, "authenticated", hers, f"DELETE FROM {table}")
        # Nobody becomes another account by saying so.
        async with admin.transaction():
            await admin.execute(f"SET LOCAL ROLE authenticated; SET LOCAL vibe.account_id = '{bob.account_id}'")
            assert await admin.fetchval("SELECT count(*) FROM threads") == 0
    finally:
        await admin.close()


async def test_supabases_roles_reach_nothing_else_of_ours(dsn: str) -> None:
    """Every table and function of every migration, those that come later too; functions that act with their caller's own rights are harmless."""
    admin = await asyncpg.connect(dsn)
    try:
        tables = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S') AND has_{}"
        reached = {
            role: {row["relname"] for row in await admin.fetch(tables.format(f"table_privilege('{role}', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')"))}
            for role in ("anon", "authenticated")
        }
        assert reached == {"anon": {"somebody_elses"}, "authenticated": READABLE | {"somebody_elses"}}
        functions = """
            SELECT proname FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND has_function_privilege($1, p.oid, 'EXECUTE')
            AND (prosecdef OR has_function_privilege('vibe_app', p.oid, 'EXECUTE') AND proacl::text LIKE '%vibe_app%')"""
        assert {row["proname"] for row in await admin.fetch(functions, "anon")} == set()
        assert {row["proname"] for row in await admin.fetch(functions, "authenticated")} == {"vibe_client_accounts"}
        live = await admin.fetch("SELECT tablename FROM pg_publication_tables WHERE pubname = 'supabase_realtime'")
        assert {row["tablename"] for row in live} == {"threads", "messages", "runs", "approvals"}
    finally:
        await admin.close()
