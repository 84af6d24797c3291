"""Keys for programs, and roles."""

from pathlib import Path

import asyncpg
import httpx
import pytest

from backend.accounts import service
from backend.kit.db import Database
from tests.conftest import Servers
from tests.people import add_person, signed_in
from tests.product import Started


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_a_key_speaks_for_its_maker_until_it_is_revoked(server: Started, servers: Servers) -> None:
    person = await add_person(servers.admin_dsn)
    async with signed_in(server.url, person) as client, httpx.AsyncClient(base_url=server.url) as program:
        made = (await client.post("/api/accounts/api-keys", json={"name": "ci"})).json()
        assert (
            made["key"].startswith("vibe_")
            and made["key"].startswith(made["prefix"])
            and len(made["prefix"]) == 11
        )
        me = await program.get("/api/auth/me", headers=bearer(made["key"]))
        assert me.json()["user"]["email"] == person.email
        assert (await client.delete(f"/api/accounts/api-keys/{made['key_id']}")).status_code == 204
        revoked = await program.get("/api/auth/me", headers=bearer(made["key"]))
        assert revoked.status_code == 401
        assert (await client.delete(f"/api/accounts/api-keys/{made['key_id']}")).status_code == 404


async def test_keys_are_listed_newest_first_in_pages_and_without_the_key(
    server: Started, servers: Servers
) -> None:
    person = await add_person(servers.admin_dsn)
    async with signed_in(server.url, person) as client:
        for name in "abcde":
            await client.post("/api/accounts/api-keys", json={"name": name})
        names, cursor = [], ""
        while cursor is not None:
            page = (
                await client.get(
                    "/api/accounts/api-keys", params={"limit": 2, **({"cursor": cursor} if cursor else {})}
                )
            ).json()
            assert len(page["items"]) <= 2
            assert all("key" not in item for item in page["items"])
            names += [item["name"] for item in page["items"]]
            cursor = page["next_cursor"]
    assert names == list("edcba")


@pytest.mark.parametrize("cursor", ["x", "W10", "WyJhIiwgImIiXQ", "bnVsbA", "eyJhIjoxfQ", "Wzk5OTk5OSwgMV0"])
async def test_a_strange_cursor_is_refused(server: Started, servers: Servers, cursor: str) -> None:
    person = await add_person(servers.admin_dsn)
    async with signed_in(server.url, person) as client:
        for path in ("/api/accounts/api-keys", "/api/agents"):
            assert (await client.get(path, params={"cursor": cursor})).status_code == 400


async def test_a_keys_use_is_noted_once_a_minute(server: Started, servers: Servers) -> None:
    person = await add_person(servers.admin_dsn)
    connection = await asyncpg.connect(servers.admin_dsn)
    async with signed_in(server.url, person) as client, httpx.AsyncClient(base_url=server.url) as program:
        key = (await client.post("/api/accounts/api-keys", json={"name": "ci"})).json()["key"]
        assert await connection.fetchval("SELECT last_used_at FROM api_keys") is None
        await program.get("/api/auth/me", headers=bearer(key))
        first = await connection.fetchval("SELECT last_used_at FROM api_keys")
        await program.get("/api/auth/me", headers=bearer(key))
        assert first is not None and await connection.fetchval("SELECT last_used_at FROM api_keys") == first
    await connection.close()


@pytest.mark.parametrize("header", ["Bearer vibe_nothing", "Bearer x", "Basic eDp5", "bearer", "Bearer"])
async def test_a_bad_key_is_refused_even_beside_a_good_cookie(
    server: Started, servers: Servers, header: str
) -> None:
    person = await add_person(servers.admin_dsn)
    async with signed_in(server.url, person) as client:
        answer = await client.get("/api/auth/me", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_key_cannot_make_keys(server: Started, servers: Servers) -> None:
    person = await add_person(servers.admin_dsn)
    async with signed_in(server.url, person) as client, httpx.AsyncClient(base_url=server.url) as program:
        key = (await client.post("/api/accounts/api-keys", json={"name": "ci"})).json()["key"]
        answer = await program.post("/api/accounts/api-keys", json={"name": "more"}, headers=bearer(key))
    assert answer.status_code == 403


async def test_the_command_lines_key_lies_in_a_private_file_and_is_mended(
    database: Database, servers: Servers, tmp_path: Path
) -> None:
    path = tmp_path / "cli.key"
    with pytest.raises(service.NoOwner):
        await service.local_key(database, path)
    person = await add_person(servers.admin_dsn)
    key = await service.local_key(database, path)
    assert path.read_text() == key and path.stat().st_mode & 0o777 == 0o600
    assert await service.local_key(database, path) == key
    caller = await service.by_key(database, key)
    assert caller is not None and caller.user_id == person.user_id
    async with database.transaction(person.account_id) as session:
        await service.revoke_key(session, caller, caller.credential_id)
    again = await service.local_key(database, path)
    assert again != key and await service.by_key(database, again) is not None


async def test_roles_decide_who_reads_edits_decides_and_manages(server: Started, servers: Servers) -> None:
    owner = await add_person(servers.admin_dsn)
    allowed: dict[str, list[bool]] = {}
    for role in ("owner", "editor", "approver", "viewer"):
        person = owner
        if role != "owner":
            person = await add_person(
                servers.admin_dsn, f"{role}@example.org", role=role, account_id=owner.account_id
            )
        async with signed_in(server.url, person) as client:
            nobody = "00000000-0000-7000-8000-000000000000"
            reads = await client.get("/api/agents")
            edits = await client.post("/api/agents", json={"config": {"name": role}})
            decides = await client.post(
                f"/api/approvals/{nobody}/decision", json={"decision": "deny", "act_hash": "x"}
            )
            manages = await client.put("/api/inference/settings", json={"default_model": "scripted/demo"})
        allowed[role] = [answer.status_code != 403 for answer in (reads, edits, decides, manages)]
    assert allowed == {
        "owner": [True, True, True, True],
        "editor": [True, True, False, False],
        "approver": [True, False, True, False],
        "viewer": [True, False, False, False],
    }


async def test_an_editor_sees_his_own_keys_and_the_owner_everybodys(
    server: Started, servers: Servers
) -> None:
    owner = await add_person(servers.admin_dsn)
    editor = await add_person(servers.admin_dsn, "ed@example.org", role="editor", account_id=owner.account_id)
    async with signed_in(server.url, owner) as boss, signed_in(server.url, editor) as client:
        key_id = (await boss.post("/api/accounts/api-keys", json={"name": "boss"})).json()["key_id"]
        await client.post("/api/accounts/api-keys", json={"name": "ed"})
        assert [item["name"] for item in (await client.get("/api/accounts/api-keys")).json()["items"]] == [
            "ed"
        ]
        assert (await client.delete(f"/api/accounts/api-keys/{key_id}")).status_code == 404
        assert len((await boss.get("/api/accounts/api-keys")).json()["items"]) == 2
