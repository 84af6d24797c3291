"""Nobody sees or touches what belongs to another account: over every route of the OpenAPI document, and in the database itself."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from backend.api import create_app
from backend.kit.db import Database, Row
from backend.kit.ids import uuid7
from backend.kit.settings import Settings
from tests.conftest import Servers
from tests.people import PASSWORD, Person, add_person, signed_in
from tests.product import Started

MARK = "belongs-to-ada"  # stands in every text of hers
NEW_ID = str(uuid7())

# Every route needs a rule. `open`: it is for everybody, and says nothing of anyone. `own`: it names no row; it speaks of the
# caller's account alone. `found`: it names a row in its path and must not find another's.
OPEN = {"read_config", "setup_owner", "log_in", "live", "ready", "sign_up", "read_invitation", "accept_invitation"}
OWN = {
    "read_me", "search_threads", "update_me", "list_api_keys", "create_api_key", "list_agents", "create_agent", "read_agent_schema",
    "list_agent_templates", "import_agent", "validate_agent", "list_tools", "list_threads", "list_approvals", "list_providers",
    "set_provider", "remove_provider", "test_provider", "list_models", "set_model_price", "read_inference_settings",
    "set_inference_settings", "log_out", "list_sessions", "end_other_sessions", "list_audit_log", "list_members", "list_invitations",
    "create_invitation", "list_accounts", "create_account", "export_account",
}  # fmt: skip
REFUSED = {"leave_account": 409}  # the last owner of an account does not leave it
LISTS = {"list_agents", "list_threads", "list_approvals"}
# Ids that another's request may carry outside of the path.
# Signing in with tokens: what is for everybody, and what wants a token of one's own, which a cookie is not.
OPEN |= {"sign_up_for_tokens", "grant_tokens", "recover_password", "verify_recovery", "read_token_settings", "read_token_keys"}
TOKEN = {"read_token_user", "update_token_user", "end_tokens"}
# Signing in through Supabase, which is off here.
OFF = {"mail_magic_link", "begin_oauth", "finish_sign_in"}
OPEN |= OFF
# What webhooks and notifications have.
OWN |= {"upload_attachment", "list_webhooks", "create_webhook", "list_notifications", "count_notifications", "read_all_notifications"}
# What OpenAI's clients ask. Embeddings are not there yet.
OWN |= {"list_openai_models", "create_chat_completion", "create_response"}
REFUSED |= {"create_embedding": 503}
BODIES: dict[str, dict[str, Any]] = {
    "setup_owner": {"token": "x", "email": "x@example.org", "name": "X", "password": PASSWORD},
    "log_in": {"email": "x@example.org", "password": PASSWORD},
    "sign_up": {"email": "x@example.org", "name": "X", "password": PASSWORD},
    "read_invitation": {"token": "x"},
    "accept_invitation": {"token": "x"},
    "set_member_role": {"role": "viewer"},
    "transfer_account": {"user_id": "{user_id}", "password": PASSWORD},
    "create_invitation": {"email": "x@example.org"},
    "create_account": {"name": "B"},
    "update_account": {"name": "B"},
    "delete_account": {"password": PASSWORD, "name": "Team"},
    "update_me": {"name": "Bob"},
    "create_api_key": {"name": "b"},
    "create_agent": {"config": {"name": "B"}},
    "import_agent": {"yaml": "agent: {name: B}"},
    "validate_agent": {"yaml": "agent: {name: B}"},
    "create_chat_completion": {"model": "scripted/demo", "messages": [{"role": "user", "content": "b"}]},
    "create_response": {"model": "scripted/demo", "input": "b"},
    "create_embedding": {"model": "custom/b", "input": "b"},
    "duplicate_agent": {"name": "B"},
    "save_draft": {"config": {"name": "B"}},
    "publish_version": {"note": "b"},
    "create_thread": {"agent_id": "{agent_id}", "title": "b"},
    "update_thread": {"title": "b"},
    "choose_branch": {"message_id": "{message_id}"},
    "fork_thread": {"message_id": "{message_id}"},
    "start_run": {"message": {"message_id": NEW_ID, "content": "b"}},
    "decide_approval": {"decision": "deny", "act_hash": "hash"},
    "set_provider": {"base_url": "https://b.example.org/v1"},
    "test_provider": {},
    "upload_attachment": {"bytes": "b"},
    "create_webhook": {"url": "https://b.example.org/hook", "events": ["run.finished"]},
    "update_webhook": {"description": "b"},
    "sign_up_for_tokens": {"email": "x@example.org", "password": PASSWORD},
    "grant_tokens": {"email": "x@example.org", "password": PASSWORD},
    "update_token_user": {"data": {"b": "b"}},
    "recover_password": {"email": "x@example.org"},
    "mail_magic_link": {"email": "x@example.org"},
    "verify_recovery": {"type": "recovery", "token_hash": "x"},
    "set_model_price": {"model": "custom/ada", "input_price": 5},
    "set_inference_settings": {"default_model": "scripted/demo"},
}
NEEDS_WORKER = {"list_workspace", "read_workspace_file"}


def operations() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Name, method, path and description of every route."""
    for path, methods in create_app(Settings(_env_file=None)).openapi()["paths"].items():
        for method, operation in methods.items():
            yield operation["operationId"], method.upper(), path, operation


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


class Hers(dict[str, str]):
    """The ids of one of everything that Ada has, by the name of the path's parameter."""


async def make_everything(client: httpx.AsyncClient, servers: Servers, person: Person) -> Hers:
    """One of everything, all texts marked."""

    async def ask(method: str, path: str, body: Any) -> dict[str, Any]:
        answer = await client.request(method, path, json=body, headers={"Idempotency-Key": f"{MARK} {path}"})
        assert answer.is_success, answer.text
        made: dict[str, Any] = answer.json()
        return made

    agent = await ask("POST", "/api/agents", {"config": {"name": MARK, "system_prompt": MARK}})
    agent_id = agent["agent_id"]
    await ask("PUT", f"/api/agents/{agent_id}/draft", {"config": {"name": f"{MARK} two"}})
    await ask("POST", f"/api/agents/{agent_id}/versions", {"note": MARK})
    await ask("PUT", f"/api/agents/{agent_id}/draft", {"config": {"name": f"{MARK} three"}})
    thread = await ask("POST", "/api/threads", {"agent_id": agent_id, "title": MARK})
    file = await ask("POST", f"/api/attachments?name={MARK}.json", {MARK: MARK})
    message: dict[str, Any] = {"message_id": str(uuid7()), "content": MARK, "attachments": [file["attachment_id"]]}
    run = await ask("POST", f"/api/threads/{thread['thread_id']}/runs", {"message": message})
    key = await ask("POST", "/api/accounts/api-keys", {"name": MARK})
    hook = await ask("POST", "/api/webhooks", {"url": f"https://{MARK}.example.org/hook", "events": ["approval.requested"]})
    invitation = await ask("POST", "/api/accounts/invitations", {"email": f"{MARK}@example.org"})
    await ask("PUT", "/api/inference/providers/custom", {"base_url": f"https://{MARK}.example.org/v1"})
    await ask("PUT", "/api/inference/models/price", {"model": "custom/ada", "input_price": 47_114_711_471})
    await ask("PUT", "/api/inference/settings", {"default_model": f"custom/{MARK}"})
    hers = Hers(
        agent_id=agent_id,
        thread_id=thread["thread_id"],
        run_id=run["run_id"],
        message_id=str(message["message_id"]),
        key_id=key["key_id"],
        webhook_id=hook["webhook_id"],
        attachment_id=file["attachment_id"],
        invitation_id=invitation["invitation_id"],
        account_id=str(person.account_id),
        user_id=str(person.user_id),
        session_id=(await client.get("/api/auth/sessions")).json()[0]["session_id"],
        rule_id=str(uuid7()),
        approval_id=str(uuid7()),
        number="1",
        name="custom",
        provider="github",
        model=agent_id,
        response_id=f"resp_{UUID(run['run_id']).hex}",
    )
    async with connected(servers.admin_dsn) as connection:
        rule = "INSERT INTO permission_rules (rule_id, account_id, agent_id, action, pattern, decision) VALUES ($1, $2, $3, $4, '{}', 'allow')"
        await connection.execute(rule, hers["rule_id"], person.account_id, agent_id, MARK)
        branch = """
            INSERT INTO thread_branches (thread_id, branch, account_id, parent_branch, fork_seq, origin_id, message_id, tokens)
            VALUES ($1, 1, $2, 0, 0, $3, $3, 0)"""
        await connection.execute(branch, hers["thread_id"], person.account_id, hers["message_id"])
        approval = """
            INSERT INTO approvals (approval_id, account_id, run_id, thread_id, agent_id, call_id, action, arguments, act_hash, status, expires_at)
            VALUES ($1, $2, $3, $4, $5, 'call', $6, '{}', 'hash', 'pending', now() + interval '1 day')"""
        ids = (hers["approval_id"], person.account_id, hers["run_id"], hers["thread_id"], agent_id)
        await connection.execute(approval, *ids, MARK)
        step = "INSERT INTO run_steps (step_id, run_id, account_id, number, kind, name, status, epoch) VALUES ($1, $2, $3, 1, 'tool_call', $4, 'done', 1)"
        await connection.execute(step, uuid7(), hers["run_id"], person.account_id, MARK)
        # The approval has made a delivery and a notification.
        # A worker of an earlier test may be about to work on them: now nobody is, and her rows stay as they are.
        await connection.execute("UPDATE webhook_deliveries SET status = 'delivered', claim = claim + 1 WHERE account_id = $1", person.account_id)
        await connection.execute("UPDATE webhooks SET active = false WHERE account_id = $1", person.account_id)
        ended = "status = 'stopped', finished_at = now(), epoch = epoch + 1, lease_owner = NULL, lease_until = NULL"
        await connection.execute(f"UPDATE runs SET {ended} WHERE account_id = $1", person.account_id)
        for name, table in (("delivery_id", "webhook_deliveries"), ("notification_id", "notifications")):
            hers[name] = str(await connection.fetchval(f"SELECT {name} FROM {table} WHERE account_id = $1", person.account_id))
    assert (await client.post(f"/api/notifications/{hers['notification_id']}/read")).is_success
    return hers


async def rows_of(servers: Servers, account_id: UUID) -> dict[str, list[str]]:
    """Everything an account has, table by table, as text."""
    found = {}
    async with connected(servers.admin_dsn) as connection:
        for table in await tenant_tables(connection):
            sql = f"SELECT row_to_json(t)::text AS row FROM {table} t WHERE account_id = $1 ORDER BY 1"
            found[table] = [row["row"] for row in await connection.fetch(sql, account_id)]
    return found


async def tenant_tables(connection: Any) -> list[str]:
    sql = """
        SELECT c.table_name FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
        WHERE c.table_schema = 'public' AND c.column_name = 'account_id' AND t.table_type = 'BASE TABLE' ORDER BY 1"""
    return [row["table_name"] for row in await connection.fetch(sql)]


@pytest.fixture
async def ada(servers: Servers, clean: None) -> Person:
    return await add_person(servers.admin_dsn, "ada@example.org")


@pytest.fixture
async def bob(servers: Servers, clean: None) -> Person:
    return await add_person(servers.admin_dsn, "bob@example.org")


@pytest.fixture
async def hers(server: Started, servers: Servers, ada: Person) -> AsyncIterator[Hers]:
    async with signed_in(server.url, ada) as client:
        yield await make_everything(client, servers, ada)


def filled(path: str, hers: Hers) -> str:
    """A path with her ids; a parameter that no rule knows fails here."""
    return path.format_map(hers)


def body_of(name: str, operation: dict[str, Any], hers: Hers) -> Any:
    if "requestBody" not in operation:
        return None
    assert name in BODIES, f"{name} takes a body: give this test one"
    return {
        key: hers[value[1:-1]] if isinstance(value, str) and value.startswith("{") else value for key, value in BODIES[name].items()
    }


@asynccontextmanager
async def asked(
    client: httpx.AsyncClient, method: str, path: str, body: Any, params: dict[str, str] | None = None
) -> AsyncIterator[httpx.Response]:
    """An answer whose body is read unless it is an endless one."""
    async with client.stream(method, path, json=body, params=params) as answer:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            await answer.aread()
        yield answer


async def test_every_route_shows_and_changes_nothing_of_another_account(
    server: Started, servers: Servers, hers: Hers, ada: Person, bob: Person, admin: Any
) -> None:
    before = await rows_of(servers, ada.account_id)
    wrong = []
    async with signed_in(server.url, bob) as client:
        for name, method, path, operation in sorted(operations(), key=lambda one: one[0] == "log_out"):
            params = {
                one["name"]: "/workspace" for one in operation.get("parameters", []) if one["name"] == "path"
            }
            body = body_of(name, operation, hers)
            had = [agent["agent_id"] for agent in (await client.get("/api/agents")).json()["items"]]
            async with asked(client, method, filled(path, hers), body, params) as answer:
                wrong += [f"{name}: {fault}" for fault in faults(name, path, answer, hers, had)]
            if await rows_of(servers, ada.account_id) != before:
                wrong.append(f"{name} changed her rows")
    assert wrong == []


def faults(name: str, path: str, answer: httpx.Response, hers: Hers, had: list[str]) -> Iterator[str]:
    """What is wrong with an answer that another account got."""
    status = answer.status_code
    if name in OPEN:
        if status not in (200, 201, 400, 401, 403, 409, 422, 503):
            yield f"status {status}"
    elif name in TOKEN:
        if status != 401:
            yield f"status {status}"
    elif name in OWN:
        if not answer.is_success:
            yield f"status {status}"
    elif name in REFUSED:
        if status != REFUSED[name]:
            yield f"status {status}"
    elif "{" not in path and name not in ("create_thread", "transfer_account"):
        yield "names no row in its path: give it a rule"
    elif status != 404:
        yield f"status {status}"
    if name in LISTS and any(item.get("agent_id") not in had for item in answer.json()["items"]):
        yield "lists what is not his"
    if (
        MARK in answer.text
        or "47114711471" in answer.text
        or any(id in answer.text for key, id in hers.items() if key.endswith("_id"))
    ):
        yield "shows what is hers"


async def test_every_reading_route_answers_the_one_it_belongs_to(
    server: Started, hers: Hers, ada: Person
) -> None:
    """Else a 404 for another account would prove nothing."""
    wrong = []
    async with signed_in(server.url, ada) as client:
        for name, method, path, _ in operations():
            if method != "GET" or name in NEEDS_WORKER | TOKEN | OFF or name == "ready":
                continue
            async with asked(client, method, filled(path, hers), None) as answer:
                if answer.status_code != 200:
                    wrong.append(f"{name}: {answer.status_code}")
    assert wrong == []


async def test_filters_find_nothing_of_another_account(server: Started, hers: Hers, bob: Person) -> None:
    async with signed_in(server.url, bob) as client:
        for path in (
            "/api/threads?agent_id={agent_id}",
            "/api/approvals?thread_id={thread_id}",
            f"/api/agents?q={MARK}",
        ):
            assert (await client.get(path.format_map(hers))).json()["items"] == []


async def test_ids_that_another_account_uses_give_nothing_away(
    server: Started, servers: Servers, hers: Hers, ada: Person, bob: Person, admin: Any
) -> None:
    before = await rows_of(servers, ada.account_id)
    async with signed_in(server.url, bob) as client:
        agent = (await client.post("/api/agents", json={"config": {"name": "B"}})).json()
        taken = await client.post(
            "/api/threads", json={"agent_id": agent["agent_id"], "thread_id": hers["thread_id"]}
        )
        assert taken.status_code in (404, 409) and MARK not in taken.text
        thread = (await client.post("/api/threads", json={"agent_id": agent["agent_id"]})).json()
        message = {"message_id": hers["message_id"], "content": "b"}
        used = await client.post(f"/api/threads/{thread['thread_id']}/runs", json={"message": message})
        assert used.status_code in (404, 409) and MARK not in used.text and hers["run_id"] not in used.text
        assert await admin.fetchval("SELECT last_seq + tokens FROM threads WHERE thread_id = $1", UUID(thread["thread_id"])) == 0
    assert await rows_of(servers, ada.account_id) == before


async def test_without_signing_in_no_route_says_anything(
    server: Started, servers: Servers, hers: Hers
) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        for name, method, path, operation in operations():
            if name in OPEN:
                continue
            answer = await client.request(method, filled(path, hers), json=body_of(name, operation, hers))
            assert answer.status_code == 401, name


# In the database --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def admin(servers: Servers) -> AsyncIterator[Any]:
    async with connected(servers.admin_dsn) as connection:
        yield connection


async def test_every_table_is_under_row_level_security(admin: Any, clean: None) -> None:
    sql = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relrowsecurity"
    assert {row["relname"] for row in await admin.fetch(sql)} == {"migrations"}
    assert len(await tenant_tables(admin)) >= 16


async def test_without_an_account_no_row_is_seen_and_with_one_only_its_own(
    database: Database, admin: Any, hers: Hers, ada: Person, bob: Person
) -> None:
    for table in [*await tenant_tables(admin), "users"]:
        count = f"SELECT count(*) FROM {table}"
        total = await admin.fetchval(count)
        async with database.transaction(None) as session:
            assert await session.value(count) == 0, table
        async with database.transaction(bob.account_id) as session:
            of_bob = await session.value(count)
        async with database.transaction(ada.account_id) as session:
            of_ada = await session.value(count)
        assert of_ada > 0 and of_ada + of_bob == total, table
    async with database.transaction(bob.account_id) as session:
        assert await session.value("SELECT email FROM users") == "bob@example.org"


async def test_rows_of_another_account_cannot_be_changed_or_written(
    database: Database, servers: Servers, admin: Any, hers: Hers, ada: Person, bob: Person
) -> None:
    before = await rows_of(servers, ada.account_id)
    for table in await tenant_tables(admin):
        column = await admin.fetchval(
            "SELECT column_name FROM information_schema.columns WHERE table_name = $1 AND table_schema = 'public' LIMIT 1",
            table,
        )
        for statement in (
            f"UPDATE {table} SET {column} = {column}",
            f"DELETE FROM {table} WHERE account_id = '{ada.account_id}'",
        ):
            try:
                async with database.transaction(bob.account_id) as session:
                    touched = await session.execute(
                        f"{statement} {'AND' if 'WHERE' in statement else 'WHERE'} account_id = $1",
                        ada.account_id,
                    )
                assert touched == 0, statement
            except asyncpg.InsufficientPrivilegeError:
                continue
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(bob.account_id) as session:
                sample = await first_row(admin, table, ada.account_id)
                written = "SELECT string_agg(attname, ', ') FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND attgenerated = ''"
                columns = await admin.fetchval(written, table)
                await session.execute(
                    f"INSERT INTO {table} ({columns}) SELECT {columns} FROM jsonb_populate_record(NULL::{table}, $1::jsonb)",
                    json.loads(sample["row"]),
                )
    assert await rows_of(servers, ada.account_id) == before


async def first_row(admin: Any, table: str, account_id: UUID) -> Row:
    row: Row = await admin.fetchrow(
        f"SELECT row_to_json(t)::text AS row FROM {table} t WHERE account_id = $1 LIMIT 1", account_id
    )
    return row


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM installation",
        "UPDATE installation SET value = '{}'",
        "INSERT INTO installation (name, value) VALUES ('x', '{}')",
        "ALTER TABLE agents DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE agents ADD COLUMN x int",
        "DROP POLICY tenant ON agents",
        "CREATE TABLE mine (x int)",
        "CREATE OR REPLACE FUNCTION vibe_account() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
        "SET ROLE postgres",
        "ALTER ROLE vibe_app BYPASSRLS",
        "ALTER ROLE vibe_app SUPERUSER",
        "CREATE ROLE mine LOGIN",
        "UPDATE audit_log SET act = 'x'",
        "DELETE FROM audit_log",
        "UPDATE agent_versions SET note = 'x'",
        "DELETE FROM agent_versions",
        "INSERT INTO memberships (account_id, user_id, role) VALUES (gen_random_uuid(), gen_random_uuid(), 'owner')",
        "DELETE FROM migrations",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
async def test_the_products_role_cannot_go_around_the_wall(
    servers: Servers, clean: None, statement: str
) -> None:
    async with connected(servers.dsn) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_with_row_security_turned_off_the_products_role_gets_an_error_not_rows(
    servers: Servers, hers: Hers
) -> None:
    async with connected(servers.dsn) as connection:
        await connection.execute("SET row_security = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM agents")


async def test_the_products_role_owns_nothing_and_has_no_privilege(admin: Any, clean: None) -> None:
    role = await admin.fetchrow(
        "SELECT rolsuper, rolbypassrls, rolcreatedb, rolcreaterole, rolreplication FROM pg_roles WHERE rolname = 'vibe_app'"
    )
    assert not any(role.values())
    assert (
        await admin.fetchval(
            "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = 'vibe_app'"
        )
        == 0
    )
    assert (
        await admin.fetchval(
            "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = 'vibe_app'"
        )
        == 0
    )


async def test_the_ways_across_accounts_have_a_fixed_search_path_and_belong_to_no_public(
    admin: Any, clean: None
) -> None:
    sql = """
        SELECT proname, proconfig, has_function_privilege('public', p.oid, 'EXECUTE') AS open
        FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND prosecdef"""
    ways = await admin.fetch(sql)
    assert len(ways) >= 8
    for way in ways:
        assert way["proconfig"] == ["search_path=public"], way["proname"]
        assert not way["open"], way["proname"]
