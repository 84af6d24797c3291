"""Members, invitations, leaving, handing over, and how new people come in."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.conftest import Servers
from tests.people import PASSWORD, Person, add_person, admin, browser, signed_in
from tests.product import Spawn, Started

NEW = {"name": "Eve", "password": "a long password of hers"}


async def invited(client: httpx.AsyncClient, email: str = "eve@example.org", role: str = "editor") -> str:
    """An invitation's token."""
    made = await client.post("/api/accounts/invitations", json={"email": email, "role": role})
    assert made.status_code == 201, made.text
    return str(made.json()["link"]).partition("token=")[2]


@pytest.fixture
async def ada(servers: Servers, server: Started) -> Person:
    return await add_person(servers.admin_dsn, "ada@example.org")


async def test_an_invited_person_chooses_a_password_and_is_in(server: Started, servers: Servers, ada: Person) -> None:
    async with signed_in(server.url, ada) as owner, browser(server.url) as client:
        made = (await owner.post("/api/accounts/invitations", json={"email": "Eve@example.org", "role": "editor"})).json()
        assert made["link"].startswith(f"{server.url}/invite?token=")
        ends = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
        assert timedelta(days=6, hours=23) < ends <= timedelta(days=7)
        token = made["link"].partition("token=")[2]
        seen = (await client.post("/api/auth/invitations/read", json={"token": token})).json()
        assert seen == {"account_name": "Team", "email": "Eve@example.org", "role": "editor", "known": False}
        alone = await client.post("/api/auth/invitations/accept", json={"token": token})
        assert alone.status_code == 400
        me = await client.post("/api/auth/invitations/accept", json={"token": token, **NEW})
        assert me.status_code == 200, me.text
        assert me.json()["account"] == {"account_id": str(ada.account_id), "name": "Team", "role": "editor"}
        assert (await client.get("/api/auth/me")).json() == me.json()
        assert (await owner.get("/api/accounts/invitations")).json()["items"] == []
        found = {member["email"]: member["role"] for member in (await client.get("/api/accounts/members")).json()}
        assert found == {"ada@example.org": "owner", "Eve@example.org": "editor"}
        again = await client.post("/api/auth/login", json={"email": "eve@example.org", "password": NEW["password"]})
        assert again.status_code == 200
    assert token.encode() not in await admin(servers, "SELECT string_agg(token_hash, '') FROM invitations")


async def test_inviting_one_address_at_the_same_moment_leaves_one_invitation(server: Started, ada: Person) -> None:
    async with signed_in(server.url, ada) as owner:
        tokens = await asyncio.gather(*(invited(owner) for _ in range(8)))
        listed = (await owner.get("/api/accounts/invitations")).json()["items"]
        assert [one["email"] for one in listed] == ["eve@example.org"]
        answers = [await owner.post("/api/auth/invitations/read", json={"token": token}) for token in tokens]
    assert sorted(answer.status_code for answer in answers) == [200] + [403] * 7


async def test_an_invitation_works_once_and_not_when_taken_back_or_over(
    server: Started, servers: Servers, ada: Person
) -> None:
    async with signed_in(server.url, ada) as owner, httpx.AsyncClient(base_url=server.url) as client:

        async def accept(token: str) -> int:
            answer = await client.post("/api/auth/invitations/accept", json={"token": token, **NEW})
            client.cookies.clear()
            return answer.status_code

        used = await invited(owner)
        assert [await accept(used), await accept(used)] == [200, 403]
        back = await invited(owner, "b@example.org")
        listed = (await owner.get("/api/accounts/invitations")).json()["items"]
        assert [one["email"] for one in listed] == ["b@example.org"] and "link" not in listed[0]
        path = f"/api/accounts/invitations/{listed[0]['invitation_id']}"
        assert [(await owner.delete(path)).status_code for _ in range(2)] == [204, 404]
        assert await accept(back) == 403
        late = await invited(owner, "c@example.org")
        await admin(servers, "UPDATE invitations SET expires_at = now() - interval '1 second'")
        assert await accept(late) == 403
        first, second = await invited(owner, "d@example.org"), await invited(owner, "D@example.org")
        assert [await accept(first), await accept(second)] == [403, 200]
        assert await accept("guessed") == 403


async def test_one_who_is_signed_in_joins_with_the_address_that_was_invited(
    server: Started, servers: Servers, ada: Person
) -> None:
    bob = await add_person(servers.admin_dsn, "bob@example.org")
    carl = await add_person(servers.admin_dsn, "carl@example.org")
    async with signed_in(server.url, ada) as owner, signed_in(server.url, bob) as client, signed_in(server.url, carl) as other:
        token = await invited(owner, "BOB@example.org", "approver")
        async with browser(server.url) as stranger:
            known = await stranger.post("/api/auth/invitations/accept", json={"token": token, **NEW})
            assert known.status_code == 409  # he has a password here: only with it he joins
        assert (await other.post("/api/auth/invitations/accept", json={"token": token})).status_code == 403
        joined = (await client.post("/api/auth/invitations/accept", json={"token": token})).json()
        assert joined["account"]["account_id"] == str(ada.account_id) and joined["account"]["role"] == "approver"
        assert (await client.get("/api/auth/me")).json() == joined
        assert [one["role"] for one in (await client.get("/api/accounts")).json()] == ["owner", "approver"]
        again = await owner.post("/api/accounts/invitations", json={"email": "bob@example.org"})
        assert again.status_code == 409


async def test_asking_twice_under_one_key_makes_one_invitation(server: Started, servers: Servers, ada: Person) -> None:
    async with signed_in(server.url, ada) as owner:
        body, headers = {"email": "eve@example.org"}, {"Idempotency-Key": "one"}
        answers = [await owner.post("/api/accounts/invitations", json=body, headers=headers) for _ in range(2)]
        assert answers[0].json() == answers[1].json() and answers[0].status_code == 201
        other = await owner.post("/api/accounts/invitations", json={"email": "z@example.org"}, headers=headers)
        assert other.status_code == 409
    assert await admin(servers, "SELECT count(*) FROM invitations") == 1


async def test_a_role_is_changed_at_once_and_the_last_owner_stays_one(server: Started, servers: Servers, ada: Person) -> None:
    ed = await add_person(servers.admin_dsn, "ed@example.org", role="editor", account_id=ada.account_id)
    async with signed_in(server.url, ada) as owner, signed_in(server.url, ed) as client:

        async def role(of: Person, role: str) -> int:
            return (await owner.patch(f"/api/accounts/members/{of.user_id}", json={"role": role})).status_code

        agent = {"config": {"name": "A"}}
        assert await role(ed, "viewer") == 200
        assert (await client.post("/api/agents", json=agent)).status_code == 403
        assert await role(ed, "editor") == 200
        assert (await client.post("/api/agents", json=agent)).status_code == 201
        assert await role(ada, "editor") == 409
        assert (await owner.post("/api/accounts/leave")).status_code == 409
        assert await role(ed, "owner") == 200
        assert await role(ada, "viewer") == 200
        assert await role(ed, "viewer") == 403  # she is no owner any more
        assert (await client.patch(f"/api/accounts/members/{ada.user_id}", json={"role": "king"})).status_code == 422


async def test_a_removed_member_is_out_at_once_with_his_keys(server: Started, servers: Servers, ada: Person) -> None:
    ed = await add_person(servers.admin_dsn, "ed@example.org", role="editor", account_id=ada.account_id)
    async with signed_in(server.url, ada) as owner, signed_in(server.url, ed) as client:
        mine = (await client.post("/api/accounts", json={"name": "Ed's own"})).json()
        key = (await client.post("/api/accounts/api-keys", json={"name": "k"})).json()["key"]
        assert (await owner.delete(f"/api/accounts/members/{ada.user_id}")).status_code == 400
        gone = [(await owner.delete(f"/api/accounts/members/{ed.user_id}")).status_code for _ in range(2)]
        assert gone == [204, 404]
        async with httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {key}"}) as program:
            assert (await program.get("/api/auth/me")).status_code == 401
        # he has another account: he is signed in there now
        assert (await client.get("/api/auth/me")).json()["account"]["account_id"] == mine["account_id"]


async def test_whoever_leaves_his_only_account_is_forgotten(server: Started, servers: Servers, ada: Person) -> None:
    ed = await add_person(servers.admin_dsn, "ed@example.org", role="viewer", account_id=ada.account_id)
    async with signed_in(server.url, ed) as client:
        assert (await client.post("/api/accounts/leave")).status_code == 204
        assert "vibe_session" not in client.cookies
    assert await admin(servers, "SELECT string_agg(email, ' ') FROM users") == "ada@example.org"


async def test_an_account_is_handed_over_with_the_owners_password(server: Started, servers: Servers, ada: Person) -> None:
    ed = await add_person(servers.admin_dsn, "ed@example.org", role="editor", account_id=ada.account_id)
    async with signed_in(server.url, ada) as owner, signed_in(server.url, ed) as client:
        wish = {"user_id": str(ed.user_id), "password": PASSWORD}
        refused = [
            await client.post("/api/accounts/transfer", json=wish),
            await owner.post("/api/accounts/transfer", json=wish | {"password": "wrong password"}),
            await owner.post("/api/accounts/transfer", json=wish | {"user_id": str(ada.user_id)}),
            await owner.post("/api/accounts/transfer", json=wish | {"user_id": "00000000-0000-7000-8000-000000000000"}),
        ]
        assert [answer.status_code for answer in refused] == [403, 403, 400, 404]
        done = await owner.post("/api/accounts/transfer", json=wish)
        assert {member["name"]: member["role"] for member in done.json()} == {"Ada": "editor", "Ed": "owner"}


# Several accounts -------------------------------------------------------------------------------------------------------


async def test_a_person_works_in_several_accounts_and_keys_stay_in_theirs(server: Started, ada: Person) -> None:
    async with signed_in(server.url, ada) as client, httpx.AsyncClient(base_url=server.url) as program:
        key = (await client.post("/api/accounts/api-keys", json={"name": "k"})).json()["key"]
        program.headers["Authorization"] = f"Bearer {key}"
        await client.post("/api/agents", json={"config": {"name": "first"}})
        headers = {"Idempotency-Key": "again"}
        made = [(await client.post("/api/accounts", json={"name": "Two"}, headers=headers)).json() for _ in range(2)]
        assert made[0] == made[1] and made[0]["role"] == "owner"
        me = (await client.post(f"/api/accounts/{made[0]['account_id']}/switch")).json()
        assert me["account"]["name"] == "Two" and (await client.get("/api/auth/me")).json() == me
        assert (await client.get("/api/agents")).json()["items"] == []
        assert [agent["name"] for agent in (await program.get("/api/agents")).json()["items"]] == ["first"]
        assert [one["name"] for one in (await client.get("/api/accounts")).json()] == ["Team", "Two"]
        assert [one["name"] for one in (await program.get("/api/accounts")).json()] == ["Team"]
        for method, path in (("POST", f"/api/accounts/{made[0]['account_id']}/switch"), ("POST", "/api/accounts")):
            assert (await program.request(method, path, json={"name": "x"})).status_code == 403
        renamed = await client.patch(f"/api/accounts/{made[0]['account_id']}", json={"name": " Two and a half "})
        assert renamed.json()["name"] == "Two and a half"
        assert (await client.patch(f"/api/accounts/{ada.account_id}", json={"name": "x"})).status_code == 404


# Signing up -------------------------------------------------------------------------------------------------------------


async def test_nobody_signs_up_while_it_is_closed(server: Started, servers: Servers) -> None:
    async with browser(server.url) as client:
        answer = await client.post("/api/auth/sign-up", json={"email": "eve@example.org", **NEW})
    assert answer.status_code == 403 and "VIBE_SIGN_UP" in answer.json()["detail"]
    assert await admin(servers, "SELECT count(*) FROM users") == 0


async def test_where_it_is_open_everybody_gets_an_account_of_his_own(spawn: Spawn, servers: Servers) -> None:
    ada = await add_person(servers.admin_dsn)
    api = spawn.api(VIBE_SIGN_UP="open")
    async with browser(api.url) as client:
        made = await client.post("/api/auth/sign-up", json={"email": "eve@example.org", **NEW})
        assert made.status_code == 201, made.text
        assert made.json()["account"]["role"] == "owner" and made.json()["account"]["account_id"] != str(ada.account_id)
        assert (await client.get("/api/auth/me")).json() == made.json()
        acts = [one["act"] for one in (await client.get("/api/accounts/audit")).json()["items"]]
        assert sorted(acts) == ["login", "person.signed_up"]
        taken = await client.post("/api/auth/sign-up", json={"email": "ADA@example.org", **NEW})
        assert taken.status_code == 409


async def test_where_it_is_by_invitation_one_shows_it(spawn: Spawn, servers: Servers) -> None:
    ada = await add_person(servers.admin_dsn)
    api = spawn.api(VIBE_SIGN_UP="invitation")
    async with signed_in(api.url, ada) as owner, browser(api.url) as client:
        token = await invited(owner)
        bodies: list[dict[str, str]] = [{}, {"invitation": "guessed"}, {"invitation": token, "email": "mallory@example.org"}, {"invitation": token}]
        answers = [await client.post("/api/auth/sign-up", json={"email": "eve@example.org", **NEW} | body) for body in bodies]
        assert [answer.status_code for answer in answers] == [403, 403, 403, 201]
        assert answers[-1].json()["account"]["account_id"] == str(ada.account_id)
