"""An account is deleted with everything in it, and the answer proves it."""

from typing import Any

import pytest

from tests.conftest import Servers
from tests.people import PASSWORD, Person, add_person, signed_in
from tests.product import Started
from tests.test_tenants import MARK, connected, make_everything, rows_of


async def every_row(servers: Servers) -> dict[str, list[str]]:
    """Every row of every table as text, whether it says whose it is or not."""
    async with connected(servers.admin_dsn) as connection:
        names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN ('migrations', 'installation')")
        return {name: [row[0] for row in await connection.fetch(f"SELECT t::text FROM {name} t")] for (name,) in names}


@pytest.fixture
async def ada(servers: Servers, server: Started) -> Person:
    return await add_person(servers.admin_dsn, "ada@example.org")


async def test_no_row_of_a_deleted_account_is_left_and_no_other_is_touched(server: Started, servers: Servers, ada: Person) -> None:
    bob = await add_person(servers.admin_dsn, "bob@example.org")
    async with signed_in(server.url, bob) as other, signed_in(server.url, ada) as client:
        await other.post("/api/agents", json={"config": {"name": "Bob's"}})
        hers = await make_everything(client, servers, ada)
        before, his = await rows_of(servers, ada.account_id), await rows_of(servers, bob.account_id)
        assert all(before.values())  # there was something in every table
        answer = await client.request("DELETE", f"/api/accounts/{ada.account_id}", json={"password": PASSWORD, "name": "Team"})
        assert answer.status_code == 200, answer.text
        proof = answer.json()
        assert {one["table"]: one["deleted"] for one in proof["tables"]} == {
            "users": 1, **{table: len(rows) for table, rows in before.items()}
        }  # fmt: skip
        assert all(one["remaining"] == 0 for one in proof["tables"]) and proof["signed_out"] is True
        assert (await client.get("/api/auth/me")).status_code == 401
        assert (await other.get("/api/agents")).json()["items"][0]["name"] == "Bob's"
    left = await every_row(servers)
    assert left.pop("gone_workspaces") and not any(
        trace in row for rows in left.values() for row in rows for trace in (MARK, str(ada.account_id), str(ada.user_id), hers["thread_id"])
    )
    now = await rows_of(servers, bob.account_id)
    assert {table: rows for table, rows in now.items() if table != "sessions"} == {table: rows for table, rows in his.items() if table != "sessions"}


async def test_it_wants_the_owner_his_password_and_the_accounts_name(server: Started, servers: Servers, ada: Person) -> None:
    editor = await add_person(servers.admin_dsn, "ed@example.org", role="editor", account_id=ada.account_id)
    path, right = f"/api/accounts/{ada.account_id}", {"password": PASSWORD, "name": "Team"}
    async with signed_in(server.url, ada) as owner, signed_in(server.url, editor) as other:
        before = await rows_of(servers, ada.account_id)

        async def status(client: Any, **changed: str) -> int:
            return int((await client.request("DELETE", path, json=right | changed)).status_code)

        assert [await status(other), await status(owner, password="wrong password"), await status(owner, name="team")] == [403, 403, 400]
        assert await rows_of(servers, ada.account_id) == before
        key = (await owner.post("/api/accounts/api-keys", json={"name": "k"})).json()["key"]
        refused = await other.request("DELETE", path, json=right, headers={"Authorization": f"Bearer {key}"})
        assert refused.status_code == 403


async def test_people_who_have_another_account_stay_and_are_signed_in_there(server: Started, servers: Servers, ada: Person) -> None:
    guest = await add_person(servers.admin_dsn, "guest@example.org", role="editor", account_id=ada.account_id)
    async with signed_in(server.url, ada) as owner, signed_in(server.url, guest) as client:
        mine = (await client.post("/api/accounts", json={"name": "Mine"})).json()
        await owner.request("DELETE", f"/api/accounts/{ada.account_id}", json={"password": PASSWORD, "name": "Team"})
        assert (await client.get("/api/auth/me")).json()["account"]["account_id"] == mine["account_id"]
    async with connected(servers.admin_dsn) as connection:
        assert await connection.fetchval("SELECT string_agg(email, ' ') FROM users") == "guest@example.org"


async def test_after_the_last_person_has_gone_the_installation_can_be_set_up_again(server: Started, ada: Person) -> None:
    async with signed_in(server.url, ada) as client:
        await client.request("DELETE", f"/api/accounts/{ada.account_id}", json={"password": PASSWORD, "name": "Team"})
        assert (await client.get("/api/config")).json()["setup_required"] is True
