"""/auth/v1 in local mode, driven by the official @supabase/auth-js; and access tokens at the door."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from email.message import Message
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from backend.accounts.tokens import AUDIENCE, InvalidToken, Tokens
from backend.kit.db import Database
from backend.kit.seal import Sealer
from tests.accounts.auth_client import AuthJs, auth_js
from tests.conftest import Servers
from tests.people import PASSWORD, Person, add_person, admin, browser, signed_in
from tests.product import Spawn, Started
from tests.wire.smtp_server import SmtpServer

NEW = {"email": "eve@example.org", "password": "a new long phrase"}


@pytest.fixture
async def ada(servers: Servers, clean: None) -> Person:
    return await add_person(servers.admin_dsn)


@pytest.fixture
async def js(server: Started) -> AsyncIterator[AuthJs]:
    async with auth_js(server.url) as client:
        yield client


def login(person: Person) -> dict[str, str]:
    return {"email": person.email, "password": PASSWORD}


async def tokens_of(url: str, person: Person) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/auth/v1/token?grant_type=password", json=login(person))
        assert answer.status_code == 200, answer.text
        session: dict[str, Any] = answer.json()
        return session


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/auth/v1/token?grant_type=refresh_token", json={"refresh_token": token})


# Signing up and in ------------------------------------------------------------------------------------------------------


async def test_a_stranger_signs_up_where_it_is_open_and_has_an_account_of_his_own(spawn: Spawn, ada: Person) -> None:
    api = spawn.api(VIBE_SIGN_UP="open")
    async with auth_js(api.url) as js:
        made = await js.done("tab", "signUp", NEW | {"options": {"data": {"full_name": "Eve", "team": 7}}})
        assert made["user"]["email"] == NEW["email"] and made["user"]["email_confirmed_at"] is None
        assert made["user"]["user_metadata"] == {"name": "Eve", "full_name": "Eve", "team": 7}
        headers = {"Authorization": f"Bearer {made['session']['access_token']}"}
        async with httpx.AsyncClient(base_url=api.url, headers=headers) as client:
            me = (await client.get("/api/auth/me")).json()
            assert (me["user"]["name"], me["account"]["role"]) == ("Eve", "owner")
            assert me["account"]["account_id"] != str(ada.account_id)
            assert (await client.post("/api/agents", json={"config": {"name": "A"}})).status_code == 201
        again = await js.refused("other", "signUp", NEW)
        weak = await js.refused("other", "signUp", {"email": "x@example.org", "password": "short"})
    assert (again["code"], again["status"]) == ("user_already_exists", 422)
    assert (weak["name"], weak["code"], weak["reasons"]) == ("AuthWeakPasswordError", "weak_password", ["length"])


@pytest.mark.parametrize("mode", ["closed", "invitation"])
async def test_where_sign_up_is_not_open_a_stranger_is_refused(spawn: Spawn, ada: Person, mode: str) -> None:
    api = spawn.api(VIBE_SIGN_UP=mode)
    async with auth_js(api.url) as js, httpx.AsyncClient(base_url=api.url) as client:
        assert (await js.refused("tab", "signUp", NEW))["code"] == "signup_disabled"
        assert (await client.get("/auth/v1/settings")).json()["disable_signup"] is True


async def test_the_first_owner_is_never_made_by_sign_up(spawn: Spawn, clean: None) -> None:
    api = spawn.api(VIBE_SIGN_UP="open")
    async with auth_js(api.url) as js, httpx.AsyncClient(base_url=api.url) as client:
        assert (await js.refused("tab", "signUp", NEW))["code"] == "signup_disabled"
        assert (await client.post("/api/auth/sign-up", json=NEW | {"name": "Eve"})).status_code == 403
        assert (await client.get("/api/config")).json()["setup_required"] is True


async def test_a_password_opens_a_session_and_getuser_says_whose(js: AuthJs, ada: Person) -> None:
    signed = await js.done("tab", "signInWithPassword", login(ada))
    assert signed["session"]["token_type"] == "bearer" and signed["session"]["expires_in"] == 3600
    user = (await js.done("tab", "getUser"))["user"]
    assert (user["id"], user["email"], user["aud"]) == (str(ada.user_id), ada.email, "authenticated")
    assert user["identities"][0]["provider"] == "email"
    claims = (await js.done("tab", "getClaims"))["claims"]  # the client checks the signature with our keys
    assert (claims["sub"], claims["role"], claims["aal"]) == (str(ada.user_id), "authenticated", "aal1")
    wrong = await js.refused("tab", "signInWithPassword", login(ada) | {"password": "wrong password"})
    unknown = await js.refused("tab", "signInWithPassword", {"email": "no@example.org", "password": "wrong password"})
    assert wrong == unknown and (wrong["code"], wrong["status"]) == ("invalid_credentials", 400)


async def test_wrong_passwords_count_together_whichever_way_they_come(server: Started, ada: Person) -> None:
    wrong = {"email": ada.email, "password": "wrong password"}
    async with browser(server.url) as client:
        for _ in range(5):
            assert (await client.post("/api/auth/login", json=wrong)).status_code == 401
            assert (await client.post("/auth/v1/token?grant_type=password", json=wrong)).status_code == 400
        refused = await client.post("/auth/v1/token?grant_type=password", json=login(ada))
    assert refused.status_code == 429 and refused.json()["error_code"] == "over_request_rate_limit"
    assert int(refused.headers["Retry-After"]) > 0


# Refreshing -------------------------------------------------------------------------------------------------------------


async def test_a_refresh_token_is_replaced_at_each_use(js: AuthJs, ada: Person, server: Started) -> None:
    seen = {(await js.done("tab", "signInWithPassword", login(ada)))["session"]["refresh_token"]}
    for _ in range(3):
        session = (await js.done("tab", "refreshSession"))["session"]
        assert session["refresh_token"] not in seen
        seen.add(session["refresh_token"])
    assert (await js.done("tab", "getUser"))["user"]["id"] == str(ada.user_id)


async def test_fifty_refreshes_side_by_side_all_get_the_same_next_token_and_nobody_is_logged_out(
    server: Started, servers: Servers, ada: Person
) -> None:
    session = await tokens_of(server.url, ada)
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        for _ in range(3):
            answers = await asyncio.gather(*(refresh(client, session["refresh_token"]) for _ in range(50)))
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.json()["refresh_token"] for answer in answers}) == 1
            session = answers[0].json()
    assert await admin(servers, "SELECT count(*) FROM refresh_tokens WHERE used_at IS NULL") == 1


async def test_fifty_tabs_of_the_official_client_stay_signed_in(js: AuthJs, ada: Person) -> None:
    session = (await js.done("first", "signInWithPassword", login(ada)))["session"]
    given = {key: session[key] for key in ("access_token", "refresh_token")}
    for tab in range(50):
        await js.done(f"tab {tab}", "setSession", given)
    for tab in range(50):
        await js.done(f"tab {tab}", "refreshSession")
    for tab in range(0, 50, 7):
        assert (await js.done(f"tab {tab}", "getUser"))["user"]["id"] == str(ada.user_id)


async def test_a_late_tab_gets_the_end_of_the_chain_however_far_it_went(server: Started, ada: Person) -> None:
    first = await tokens_of(server.url, ada)
    async with httpx.AsyncClient(base_url=server.url) as client:
        newest = first["refresh_token"]
        for _ in range(4):
            newest = (await refresh(client, newest)).json()["refresh_token"]
        late = (await refresh(client, first["refresh_token"])).json()["refresh_token"]
        assert late == newest
        assert (await refresh(client, late)).status_code == 200


async def test_an_old_refresh_token_that_comes_again_ends_the_session_at_once(
    js: AuthJs, server: Started, servers: Servers, ada: Person
) -> None:
    stolen = (await js.done("tab", "signInWithPassword", login(ada)))["session"]
    await js.done("tab", "refreshSession")
    await admin(servers, "UPDATE refresh_tokens SET used_at = used_at - interval '11 seconds'")
    async with httpx.AsyncClient(base_url=server.url) as client:
        thief = await refresh(client, stolen["refresh_token"])
        assert (thief.status_code, thief.json()["error_code"]) == (400, "refresh_token_already_used")
    assert (await js.refused("tab", "refreshSession"))["code"] == "refresh_token_not_found"
    assert (await js.refused("other", "getUser", stolen["access_token"]))["name"] == "AuthSessionMissingError"
    assert await admin(servers, "SELECT count(*) FROM audit_log WHERE act = 'session.reused'") == 1


async def test_of_refresh_tokens_only_hashes_are_stored(server: Started, servers: Servers, ada: Person) -> None:
    session = await tokens_of(server.url, ada)
    rows = await admin(servers, "SELECT string_agg(row_to_json(t)::text, ' ') FROM refresh_tokens t")
    assert session["refresh_token"] not in rows


# The person -------------------------------------------------------------------------------------------------------------


async def test_data_of_a_person_are_merged_and_a_null_takes_a_key_away(js: AuthJs, ada: Person) -> None:
    await js.done("tab", "signInWithPassword", login(ada))
    await js.done("tab", "updateUser", {"data": {"theme": "dark", "name": "Countess"}})
    updated = (await js.done("tab", "updateUser", {"data": {"theme": None, "size": 2}}))["user"]
    assert updated["user_metadata"] == {"name": "Countess", "size": 2}
    assert (await js.refused("tab", "updateUser", {"email": "other@example.org"}))["code"] == "email_address_not_authorized"


async def test_a_new_password_ends_every_other_session_of_browsers_too(js: AuthJs, server: Started, ada: Person) -> None:
    async with signed_in(server.url, ada) as page:
        for tab in ("here", "there"):
            await js.done(tab, "signInWithPassword", login(ada))
        assert (await js.refused("here", "updateUser", {"password": PASSWORD}))["code"] == "same_password"
        await js.done("here", "updateUser", {"password": "quite another phrase"})
        assert (await page.get("/api/auth/me")).status_code == 401
    assert (await js.done("here", "getUser"))["user"]["id"] == str(ada.user_id)
    assert (await js.refused("there", "refreshSession"))["code"] == "refresh_token_not_found"
    await js.done("new", "signInWithPassword", {"email": ada.email, "password": "quite another phrase"})


async def test_a_session_of_more_than_a_day_proves_the_current_password(js: AuthJs, servers: Servers, ada: Person) -> None:
    await js.done("tab", "signInWithPassword", login(ada))
    await admin(servers, "UPDATE sessions SET created_at = created_at - interval '25 hours'")
    change = {"password": "quite another phrase"}
    assert (await js.refused("tab", "updateUser", change))["code"] == "reauthentication_needed"
    wrong = await js.refused("tab", "updateUser", change | {"current_password": "wrong password"})
    assert wrong["code"] == "invalid_credentials"
    await js.done("tab", "updateUser", change | {"current_password": PASSWORD})


# Signing out ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "left"), [("local", {"there", "page"}), ("others", {"here"}), ("global", set())]
)
async def test_signing_out_ends_what_its_scope_says_at_once(
    js: AuthJs, server: Started, ada: Person, scope: str, left: set[str]
) -> None:
    async with signed_in(server.url, ada) as page, httpx.AsyncClient(base_url=server.url) as client:
        access = {}
        for tab in ("here", "there"):
            access[tab] = (await js.done(tab, "signInWithPassword", login(ada)))["session"]["access_token"]
        await js.done("here", "signOut", {"scope": scope})
        alive = {"page"} if (await page.get("/api/auth/me")).status_code == 200 else set()
        for tab, token in access.items():
            answer = await client.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})
            alive |= {tab} if answer.status_code == 200 else set()
    assert alive == left


# Recovery ---------------------------------------------------------------------------------------------------------------


def text_of(mail: Message) -> str:
    body = mail.get_payload(decode=True)
    assert isinstance(body, bytes)
    return body.decode()


def token_in(mail: Message) -> str:
    found = re.search(r"enter this code: (\S+)", text_of(mail))
    assert found
    return found[1]


async def test_a_forgotten_password_comes_back_by_mail_once(spawn: Spawn, servers: Servers, ada: Person) -> None:
    with SmtpServer() as post:
        api = spawn.api(VIBE_SMTP_URL=post.url, VIBE_PUBLIC_URL="https://vibe.example.org", VIBE_MAIL_FROM="V <v@example.org>")
        async with auth_js(api.url) as js:
            ours = {"redirectTo": "https://vibe.example.org/welcome"}
            await js.done("tab", "resetPasswordForEmail", ada.email, ours)
            mail = await asyncio.to_thread(post.next_mail)
            assert (mail["To"], mail["From"]) == (ada.email, "V <v@example.org>")
            assert f"https://vibe.example.org/welcome?token_hash={token_in(mail)}&type=recovery" in text_of(mail)
            await admin(servers, "UPDATE users SET email_confirmed_at = NULL")
            wrong = await js.refused("tab", "verifyOtp", {"email": "x@example.org", "token": token_in(mail), "type": "recovery"})
            assert wrong["code"] == "otp_expired"
            signed = await js.done("tab", "verifyOtp", {"token_hash": token_in(mail), "type": "recovery"})
            assert signed["user"]["email_confirmed_at"] is not None  # who reads the mail has the address
            await js.done("tab", "updateUser", {"password": "quite another phrase"})
            again = await js.refused("tab", "verifyOtp", {"token_hash": token_in(mail), "type": "recovery"})
            assert again["code"] == "otp_expired"
            await js.done("new", "signInWithPassword", {"email": ada.email, "password": "quite another phrase"})

            await js.done("tab", "resetPasswordForEmail", ada.email, {"redirectTo": "https://evil.example/take"})
            foreign = await asyncio.to_thread(post.next_mail)
            assert "evil.example" not in text_of(foreign)
            await admin(servers, "UPDATE recoveries SET expires_at = now()")
            late = await js.refused("tab", "verifyOtp", {"token_hash": token_in(foreign), "type": "recovery"})
            assert late["code"] == "otp_expired"
            await js.done("tab", "resetPasswordForEmail", "nobody@example.org")
        api.stop()  # it waits for mails on their way
        assert post.waiting == 0


async def test_without_a_mail_server_the_operator_is_told_and_the_log_holds_no_secret(spawn: Spawn, servers: Servers, ada: Person) -> None:
    api = spawn.api()
    async with auth_js(api.url) as js:
        await js.done("tab", "resetPasswordForEmail", ada.email)
    api.stop()
    assert f"vibe owner password --email {ada.email}" in api.log.read_text()
    assert await admin(servers, "SELECT count(*) FROM recoveries") == 0


async def test_asking_for_mails_again_and_again_is_refused(server: Started, ada: Person) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        for email in (ada.email, "nobody@example.org"):
            statuses = [(await client.post("/auth/v1/recover", json={"email": email})).status_code for _ in range(4)]
            assert statuses == [200, 200, 200, 429]


# At the door ------------------------------------------------------------------------------------------------------------


async def test_a_token_speaks_for_another_account_only_to_a_member_of_it(server: Started, servers: Servers, ada: Person) -> None:
    bob = await add_person(servers.admin_dsn, "bob@example.org")
    await admin(servers, "INSERT INTO memberships (account_id, user_id, role) VALUES ($1, $2, 'viewer')", bob.account_id, ada.user_id)
    stranger = await add_person(servers.admin_dsn, "eve@example.org")
    token = (await tokens_of(server.url, ada))["access_token"]
    async with httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {token}"}) as client:

        async def create(account: str | None) -> int:
            headers = {"X-Account-Id": account} if account else {}
            return (await client.post("/api/agents", json={"config": {"name": "A"}}, headers=headers)).status_code

        assert await create(None) == await create(str(ada.account_id)) == 201
        assert await create(str(bob.account_id)) == 403  # a viewer there
        assert (await client.get("/api/agents", headers={"X-Account-Id": str(bob.account_id)})).json()["items"] == []
        refused = await client.get("/api/agents", headers={"X-Account-Id": str(stranger.account_id)})
        nowhere = await client.get("/api/agents", headers={"X-Account-Id": str(uuid4())})
        assert refused.status_code == nowhere.status_code == 403
        assert refused.json()["title"] == nowhere.json()["title"]
        assert await create("not an id") == 400


Forge = Callable[[dict[str, Any], dict[str, Any], str], str]


def _unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part(header)}.{part(claims)}"


def _signed(claims: dict[str, Any], header: dict[str, Any], key: Any = None) -> str:
    return jwt.encode(claims, key or ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": header["kid"]})


def _hmac(claims: dict[str, Any], header: dict[str, Any], public_pem: str) -> str:
    """HS256 with the public key's text as the secret: what a checker that trusts the header's `alg` falls for."""
    body = _unsigned({"alg": "HS256", "typ": "JWT", "kid": header["kid"]}, claims)
    mac = hmac.digest(public_pem.encode(), body.encode(), hashlib.sha256)
    return f"{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


FORGED: dict[str, Forge] = {
    "no algorithm": lambda claims, header, pem: _unsigned({**header, "alg": "none"}, claims) + ".",
    "no signature": lambda claims, header, pem: _unsigned(header, claims) + ".",
    "the public key as a secret": lambda claims, header, pem: _hmac(claims, header, pem),
    "another key of the same name": lambda claims, header, pem: _signed(claims, header),
    "a key of its own in the header": lambda claims, header, pem: _unsigned({**header, "jwk": {"kty": "oct", "k": "AA"}}, claims) + ".AAAA",
}


async def test_forged_tokens_are_refused(server: Started, ada: Person) -> None:
    genuine = (await tokens_of(server.url, ada))["access_token"]
    header, claims = jwt.get_unverified_header(genuine), jwt.decode(genuine, options={"verify_signature": False})
    async with httpx.AsyncClient(base_url=server.url) as client:
        key = (await client.get("/auth/v1/.well-known/jwks.json")).json()["keys"][0]
        assert key["kid"] == header["kid"] and "d" not in key
        public = jwt.PyJWK(key).key
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
        body, signature = genuine.rsplit(".", 1)
        other = _unsigned(header, claims | {"sub": str(uuid4())})
        tried = {name: forge(claims, header, pem) for name, forge in FORGED.items()}
        tried |= {"another person under this signature": f"{other}.{signature}", "half a signature": f"{body}.{signature[:40]}"}
        for name, token in tried.items():
            bearer = {"Authorization": f"Bearer {token}"}
            assert (await client.get("/api/auth/me", headers=bearer)).status_code == 401, name
            assert (await client.get("/auth/v1/user", headers=bearer)).json()["error_code"] == "bad_jwt", name
        assert (await client.get("/api/auth/me", headers={"Authorization": f"Bearer {genuine}"})).status_code == 200


async def test_a_good_signature_is_not_enough(database: Database, servers: Servers, ada: Person) -> None:
    """Ours, but for somebody else, from somebody else, over, or not yet begun."""
    tokens, session_id = Tokens(database, Sealer("one"), "https://vibe.example.org"), uuid4()
    good, _ = await tokens.sign(ada.user_id, session_id, {})
    assert "PRIVATE KEY" not in await admin(servers, "SELECT value::text FROM installation WHERE name = 'token_key'")
    same = Tokens(database, Sealer("one"), "https://vibe.example.org")
    assert await same.public_keys() == await tokens.public_keys()  # whichever process signs
    assert (await tokens.check(good)).session_id == session_id
    claims, now = jwt.decode(good, options={"verify_signature": False}), int(time.time())
    key = (await tokens._signing_key()).private
    header = jwt.get_unverified_header(good)
    for changed in (
        {"aud": "anon"},
        {"aud": [AUDIENCE, "anon"]},
        {"iss": "https://evil.example/auth/v1"},
        {"exp": now - 60},
        {"nbf": now + 60},
        {"iat": now + 60},
        {"sub": "nobody"},
        {"session_id": None},
        {"exp": None},
    ):
        said = {name: value for name, value in (claims | changed).items() if value is not None}
        with pytest.raises(InvalidToken):
            await tokens.check(_signed(said, header, key))
    with pytest.raises(InvalidToken):
        await tokens.check(_signed(claims, {"kid": "another"}, key))
    with pytest.raises(InvalidToken):
        await tokens.check(good + "A" * 9000)


async def test_what_cannot_be_read_is_said_in_the_clients_words(server: Started, ada: Person) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        headers = {"Content-Type": "application/json"}
        broken = await client.post("/auth/v1/signup", content=b"{", headers=headers)
        missing = await client.post("/auth/v1/token?grant_type=password", json={"email": ada.email})
        unknown = await client.post("/auth/v1/token?grant_type=pkce", json={})
        bare = await client.get("/auth/v1/user")
        secret = await client.post("/auth/v1/signup", json={"email": "x", "password": ["geheim"]})
        unstorable = [
            await client.post("/auth/v1/recover", content=b'{"email": "a\\u0000@example.org"}', headers=headers),
            await client.post("/auth/v1/signup", json=NEW | {"data": {"a": "\0"}}),
            await client.post("/auth/v1/signup", content=b'{"email": "a@b.c", "password": "x", "data": {"a": "\\ud800"}}', headers=headers),
        ]
        assert [answer.json()["error_code"] for answer in unstorable] == ["validation_failed"] * 3
    codes = [answer.json()["error_code"] for answer in (broken, missing, unknown, bare)]
    assert codes == ["bad_json", "validation_failed", "validation_failed", "no_authorization"]
    assert [broken.status_code, missing.status_code, bare.status_code] == [400, 400, 401]
    assert "geheim" not in secret.text
    assert broken.headers["Cache-Control"] == "no-store"
