"""Where one is signed in, what keys may do, and the audit log."""

from datetime import UTC, datetime, timedelta

import asyncpg
import httpx

from tests.conftest import Servers
from tests.people import add_person, signed_in
from tests.product import Started


async def test_sessions_are_listed_and_ended_one_or_all_others(server: Started, servers: Servers) -> None:
    ada = await add_person(servers.admin_dsn)
    async with signed_in(server.url, ada) as here, signed_in(server.url, ada) as there, signed_in(server.url, ada) as third:
        listed = (await here.get("/api/auth/sessions")).json()
        assert len(listed) == 3 and [one["network"] for one in listed] == ["127.0.0.1"] * 3
        assert listed[0]["user_agent"].startswith("python-httpx/") and sum(one["current"] for one in listed) == 1
        other = next(one["session_id"] for one in (await third.get("/api/auth/sessions")).json() if one["current"])
        assert [(await here.delete(f"/api/auth/sessions/{other}")).status_code for _ in range(2)] == [204, 404]
        assert (await third.get("/api/auth/me")).status_code == 401
        made = (await there.post("/api/accounts", json={"name": "Two"})).json()
        await there.post(f"/api/accounts/{made['account_id']}/switch")  # which account it speaks for makes no difference
        assert (await here.delete("/api/auth/sessions")).json() == {"ended": 1}
        assert (await there.get("/api/auth/me")).status_code == 401
        assert (await here.get("/api/auth/me")).status_code == 200


async def test_a_key_may_what_its_scopes_and_its_persons_role_both_allow(server: Started, servers: Servers) -> None:
    owner = await add_person(servers.admin_dsn)
    editor = await add_person(servers.admin_dsn, "ed@example.org", role="editor", account_id=owner.account_id)
    nobody = "00000000-0000-7000-8000-000000000000"
    tries = (
        ("GET", "/api/agents", None),
        ("POST", "/api/agents", {"config": {"name": "A"}}),
        ("POST", f"/api/approvals/{nobody}/decision", {"decision": "deny", "act_hash": "x"}),
        ("GET", "/api/accounts/audit", None),
    )
    allowed = {}
    for person in (owner, editor):
        async with signed_in(server.url, person) as client:
            for scopes in (["read"], ["write"], ["approve"], ["manage"], []):
                made = (await client.post("/api/accounts/api-keys", json={"name": "k", "scopes": scopes})).json()
                assert made["scopes"] == (["read", *scopes] if scopes not in (["read"], []) else ["read"])
                headers = {"Authorization": f"Bearer {made['key']}"}
                async with httpx.AsyncClient(base_url=server.url, headers=headers) as program:
                    answers = [await program.request(method, path, json=body) for method, path, body in tries]
                    renamed = await program.patch("/api/auth/me", json={"name": "x"})
                    assert renamed.status_code == 403
                    ended = await program.delete(f"/api/accounts/api-keys/{nobody}")
                    assert ended.status_code == (404 if scopes == ["manage"] and person is owner else 403)
                    assert (await program.delete(f"/api/accounts/api-keys/{made['key_id']}")).status_code == 204
                allowed[person.email, *scopes] = "".join("-+"[answer.status_code != 403] for answer in answers)
    assert allowed == {
        ("ada@example.org", "read"): "+---", ("ada@example.org", "write"): "++--", ("ada@example.org", "approve"): "+-+-",
        ("ada@example.org", "manage"): "+--+", ("ada@example.org",): "+---",
        ("ed@example.org", "read"): "+---", ("ed@example.org", "write"): "++--", ("ed@example.org", "approve"): "+---",
        ("ed@example.org", "manage"): "+---", ("ed@example.org",): "+---",
    }  # fmt: skip


async def test_a_key_ends_when_it_says(server: Started, servers: Servers) -> None:
    ada = await add_person(servers.admin_dsn)
    async with signed_in(server.url, ada) as client, httpx.AsyncClient(base_url=server.url) as program:
        soon, past = (datetime.now(UTC) + timedelta(hours=hours) for hours in (1, -1))
        refused = await client.post("/api/accounts/api-keys", json={"name": "k", "expires_at": past.isoformat()})
        assert refused.status_code == 400
        made = (await client.post("/api/accounts/api-keys", json={"name": "k", "expires_at": soon.isoformat()})).json()
        assert datetime.fromisoformat(made["expires_at"]) == soon
        program.headers["Authorization"] = f"Bearer {made['key']}"
        assert (await program.get("/api/auth/me")).status_code == 200
        connection = await asyncpg.connect(servers.admin_dsn)
        await connection.execute("UPDATE api_keys SET expires_at = now() - interval '1 second'")
        await connection.close()
        assert (await program.get("/api/auth/me")).status_code == 401


async def test_asking_twice_under_one_idempotency_key_makes_one_key(server: Started, servers: Servers) -> None:
    ada = await add_person(servers.admin_dsn)
    async with signed_in(server.url, ada) as client:
        headers = {"Idempotency-Key": "one"}
        made = [(await client.post("/api/accounts/api-keys", json={"name": "k"}, headers=headers)).json() for _ in range(2)]
        assert made[0] == made[1] and len(made[0]["key"]) == len("vibe_") + 43
        assert len((await client.get("/api/accounts/api-keys")).json()["items"]) == 1
        other = await client.post("/api/accounts/api-keys", json={"name": "other"}, headers=headers)
        assert other.status_code == 409


async def test_the_owner_reads_the_audit_log_in_pages_by_act_and_by_family(server: Started, servers: Servers) -> None:
    ada = await add_person(servers.admin_dsn)
    viewer = await add_person(servers.admin_dsn, "v@example.org", role="viewer", account_id=ada.account_id)
    async with signed_in(server.url, ada) as client, signed_in(server.url, viewer) as other:
        ids = [(await client.post("/api/accounts/api-keys", json={"name": str(n)})).json()["key_id"] for n in range(5)]
        await client.delete(f"/api/accounts/api-keys/{ids[0]}")
        found, cursor = [], None
        while True:
            page = (await client.get(f"/api/accounts/audit?act=key.&limit=2{f'&cursor={cursor}' if cursor else ''}")).json()
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert [one["act"] for one in found] == ["key.revoked"] + ["key.created"] * 5
        assert found[-1]["object"] == ids[0] and found[-1]["user_name"] == "Ada"
        assert len((await client.get("/api/accounts/audit?act=key.revoked")).json()["items"]) == 1
        assert (await client.get("/api/accounts/audit?act=key")).json()["items"] == []
        assert (await other.get("/api/accounts/audit")).status_code == 403
