"""The first owner, signing in and out, sessions, passwords."""

import asyncio
import hashlib

import httpx
import pytest

from backend.accounts import service
from backend.kit.db import Database
from backend.kit.problems import NotFound
from tests.conftest import Servers
from tests.people import PASSWORD, add_person, admin, browser, signed_in
from tests.product import Spawn, Started

OWNER = {"email": "ada@example.org", "name": "Ada", "password": PASSWORD}


async def test_the_setup_link_makes_the_owner_and_signs_him_in(server: Started, database: Database) -> None:
    token = await service.issue_setup_token(database)
    async with browser(server.url) as client:
        assert (await client.get("/api/config")).json()["setup_required"] is True
        made = await client.post("/api/auth/setup", json={"token": token, **OWNER})
        assert made.status_code == 201
        assert made.json()["account"]["role"] == "owner"
        assert (await client.get("/api/auth/me")).json() == made.json()
        assert (await client.get("/api/config")).json()["setup_required"] is False


async def test_a_wrong_setup_token_makes_nobody(server: Started, database: Database) -> None:
    await service.issue_setup_token(database)
    async with browser(server.url) as client:
        refused = await client.post("/api/auth/setup", json={"token": "guess", **OWNER})
        assert refused.status_code == 403
        assert (await client.get("/api/config")).json()["setup_required"] is True


async def test_a_new_setup_token_makes_the_one_before_worthless(server: Started, database: Database) -> None:
    first = await service.issue_setup_token(database)
    second = await service.issue_setup_token(database)
    async with browser(server.url) as client:
        assert (await client.post("/api/auth/setup", json={"token": first, **OWNER})).status_code == 403
        assert (await client.post("/api/auth/setup", json={"token": second, **OWNER})).status_code == 201


async def test_only_one_owner_is_made_however_many_ask_at_once(
    server: Started, database: Database, servers: Servers
) -> None:
    token = await service.issue_setup_token(database)
    async with browser(server.url) as client:
        asked = [
            client.post("/api/auth/setup", json={"token": token, **OWNER, "email": f"{n}@example.org"})
            for n in range(6)
        ]
        answers = await asyncio.gather(*asked)
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409, 409]
    assert await admin(servers, "SELECT count(*) FROM users") == 1
    with pytest.raises(service.AlreadySetUp):
        await service.issue_setup_token(database)


async def test_of_tokens_and_keys_only_a_hash_is_stored(
    server: Started, database: Database, servers: Servers
) -> None:
    setup_token = await service.issue_setup_token(database)
    stored = await admin(servers, "SELECT value->>'sha256' FROM installation WHERE name = 'setup_token'")
    assert stored == hashlib.sha256(setup_token.encode()).hexdigest()
    async with browser(server.url) as client:
        await client.post("/api/auth/setup", json={"token": setup_token, **OWNER})
        key = (await client.post("/api/accounts/api-keys", json={"name": "k"})).json()["key"]
        cookie = client.cookies["vibe_session"]
    hashes = [hashlib.sha256(secret.encode()).digest() for secret in (cookie, key)]
    assert await admin(servers, "SELECT token_hash FROM sessions") == hashes[0]
    assert await admin(servers, "SELECT key_hash FROM api_keys") == hashes[1]
    assert (await admin(servers, "SELECT password_hash FROM users")).startswith(
        "$argon2id$v=19$m=65536,t=3,p=4$"
    )


async def test_the_cookie_is_closed_to_scripts_and_other_sites(server: Started, servers: Servers) -> None:
    person = await add_person(servers.admin_dsn)
    async with browser(server.url) as client:
        answer = await client.post("/api/auth/login", json={"email": person.email, "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "path=/" in cookie and "secure" not in cookie


async def test_behind_https_the_cookie_is_secure(spawn: Spawn, servers: Servers) -> None:
    person = await add_person(servers.admin_dsn)
    api = spawn.api(VIBE_PUBLIC_URL="https://vibe.example.org")
    async with browser(api.url) as client:
        asked = {"email": person.email, "password": PASSWORD}
        headers = {"Host": "vibe.example.org", "Origin": "https://vibe.example.org"}
        answer = await client.post("/api/auth/login", json=asked, headers=headers)
    assert answer.status_code == 200
    assert "secure" in answer.headers["set-cookie"].lower()


async def test_a_wrong_password_and_an_unknown_mail_get_the_same_answer(
    server: Started, servers: Servers
) -> None:
    person = await add_person(servers.admin_dsn)
    async with browser(server.url) as client:
        wrong = await client.post(
            "/api/auth/login", json={"email": person.email, "password": "wrong password"}
        )
        unknown = await client.post(
            "/api/auth/login", json={"email": "no@example.org", "password": "wrong password"}
        )
    drop = {"request_id"}
    assert wrong.status_code == unknown.status_code == 401
    assert {k: v for k, v in wrong.json().items() if k not in drop} == {
        k: v for k, v in unknown.json().items() if k not in drop
    }
    assert await admin(servers, "SELECT count(*) FROM audit_log WHERE act = 'login.failed'") == 1


async def test_after_ten_tries_for_one_mail_one_has_to_wait(server: Started, servers: Servers) -> None:
    person = await add_person(servers.admin_dsn)
    async with browser(server.url) as client:
        asked = {"email": person.email, "password": "wrong password"}
        statuses = [(await client.post("/api/auth/login", json=asked)).status_code for _ in range(11)]
        refused = await client.post(
            "/api/auth/login", json={"email": person.email.upper(), "password": PASSWORD}
        )
    assert statuses == [401] * 10 + [429]
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 300


async def test_signing_in_forgets_earlier_tries(server: Started, servers: Servers) -> None:
    person = await add_person(servers.admin_dsn)
    async with browser(server.url) as client:
        for password in ["wrong password"] * 9 + [PASSWORD] + ["wrong password"] * 9 + [PASSWORD]:
            answer = await client.post("/api/auth/login", json={"email": person.email, "password": password})
            assert answer.status_code == (200 if password == PASSWORD else 401)


async def test_mail_addresses_are_the_same_in_capitals(server: Started, servers: Servers) -> None:
    await add_person(servers.admin_dsn, "ada@example.org")
    async with browser(server.url) as client:
        answer = await client.post(
            "/api/auth/login", json={"email": " ADA@Example.org ", "password": PASSWORD}
        )
    assert answer.status_code == 200


async def test_after_signing_out_the_session_is_worth_nothing(server: Started, servers: Servers) -> None:
    person = await add_person(servers.admin_dsn)
    async with signed_in(server.url, person) as client:
        cookie = client.cookies["vibe_session"]
        assert (await client.post("/api/auth/logout")).status_code == 204
        again = await client.get("/api/auth/me", headers={"Cookie": f"vibe_session={cookie}"})
    assert again.status_code == 401


async def test_a_session_ends_after_thirty_days_without_use(server: Started, servers: Servers) -> None:
    person = await add_person(servers.admin_dsn)
    async with signed_in(server.url, person) as client:
        left = "SELECT expires_at - now() BETWEEN interval '29 days 23 hours' AND interval '30 days' FROM sessions"
        assert await admin(servers, left)
        await admin(servers, "UPDATE sessions SET expires_at = now() - interval '1 second'")
        assert (await client.get("/api/auth/me")).status_code == 401


async def test_a_use_prolongs_the_session_but_is_written_once_an_hour(
    server: Started, servers: Servers
) -> None:
    person = await add_person(servers.admin_dsn)
    async with signed_in(server.url, person) as client:
        await admin(
            servers,
            "UPDATE sessions SET last_used_at = now() - interval '59 minutes', expires_at = now() + interval '1 day'",
        )
        await client.get("/api/auth/me")
        assert await admin(servers, "SELECT expires_at < now() + interval '2 days' FROM sessions")
        await admin(servers, "UPDATE sessions SET last_used_at = now() - interval '61 minutes'")
        await client.get("/api/auth/me")
        assert await admin(servers, "SELECT expires_at > now() + interval '29 days' FROM sessions")


async def test_a_new_password_wants_the_current_one_and_ends_other_sessions(
    server: Started, servers: Servers
) -> None:
    person = await add_person(servers.admin_dsn)
    new = "another long password"
    async with signed_in(server.url, person) as here, signed_in(server.url, person) as elsewhere:
        without = await here.patch("/api/auth/me", json={"new_password": new})
        wrong = await here.patch(
            "/api/auth/me", json={"new_password": new, "current_password": "wrong password"}
        )
        right = await here.patch("/api/auth/me", json={"new_password": new, "current_password": PASSWORD})
        assert [without.status_code, wrong.status_code, right.status_code] == [400, 403, 200]
        assert (await here.get("/api/auth/me")).status_code == 200
        assert (await elsewhere.get("/api/auth/me")).status_code == 401
        old = await elsewhere.post("/api/auth/login", json={"email": person.email, "password": PASSWORD})
        fresh = await elsewhere.post("/api/auth/login", json={"email": person.email, "password": new})
        assert [old.status_code, fresh.status_code] == [401, 200]


async def test_a_name_is_changed_without_a_password(server: Started, servers: Servers) -> None:
    person = await add_person(servers.admin_dsn)
    async with signed_in(server.url, person) as client:
        assert (await client.patch("/api/auth/me", json={"name": "Countess"})).json()["user"][
            "name"
        ] == "Countess"


async def test_a_refused_payload_names_the_field_and_does_not_repeat_it(server: Started) -> None:
    async with browser(server.url) as client:
        answer = await client.post(
            "/api/auth/setup",
            json={"token": "t", "email": "ada", "name": "Ada", "password": "kurz&geheim"[:8]},
        )
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert {error["loc"] for error in answer.json()["errors"]} == {"email", "password"}
    assert "geheim" not in answer.text


async def test_acts_that_matter_are_in_the_audit_log(
    server: Started, database: Database, servers: Servers
) -> None:
    token = await service.issue_setup_token(database)
    async with browser(server.url) as client:
        await client.post("/api/auth/setup", json={"token": token, **OWNER})
        key_id = (await client.post("/api/accounts/api-keys", json={"name": "k"})).json()["key_id"]
        await client.delete(f"/api/accounts/api-keys/{key_id}")
        await client.patch(
            "/api/auth/me", json={"new_password": PASSWORD + "!", "current_password": PASSWORD}
        )
        await client.post("/api/auth/logout")
    acts = await admin(servers, "SELECT string_agg(act, ' ' ORDER BY created_at, entry_id) FROM audit_log")
    assert acts == "owner.created login key.created key.revoked password.changed logout"


async def test_passwords_are_hashed_beside_each_other_only_so_many_at_a_time(
    server: Started, servers: Servers
) -> None:
    person = await add_person(servers.admin_dsn)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        asked = {"email": person.email, "password": PASSWORD}
        answers = await asyncio.gather(*(client.post("/api/auth/login", json=asked) for _ in range(8)))
        live = await client.get("/health/live")
    assert {answer.status_code for answer in answers} == {200}
    assert live.status_code == 200


async def test_a_forgotten_password_is_set_on_the_machine_and_ends_every_session(server: Started, database: Database) -> None:
    await service.create_owner(database, OWNER["email"], OWNER["name"], PASSWORD)
    async with browser(server.url) as client:
        assert (await client.post("/api/auth/login", json={"email": OWNER["email"], "password": PASSWORD})).status_code == 200
        await service.reset_password(database, "ADA@example.org", "quite another phrase")
        assert (await client.get("/api/auth/me")).status_code == 401
        assert (await client.post("/api/auth/login", json={"email": OWNER["email"], "password": PASSWORD})).status_code == 401
        signed = await client.post("/api/auth/login", json={"email": OWNER["email"], "password": "quite another phrase"})
        assert signed.status_code == 200
    with pytest.raises(NotFound):
        await service.reset_password(database, "nobody@example.org", "quite another phrase")
