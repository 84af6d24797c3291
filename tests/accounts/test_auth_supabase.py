"""Signing in through Supabase, against a strict stand-in of its auth API."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from tests.conftest import Servers
from tests.people import Person, add_person, admin, browser
from tests.product import Spawn, Started
from tests.wire.supabase_server import ANON_KEY, SECRET, Known, SupabaseServer

PASSWORD = "her password at Supabase"


@pytest.fixture
async def ada(servers: Servers, clean: None) -> Person:
    """The owner here; `her` is she at Supabase."""
    return await add_person(servers.admin_dsn)


@pytest.fixture
def her() -> Known:
    return Known("Ada@Example.org", PASSWORD)


@pytest.fixture
def project(her: Known) -> Iterator[SupabaseServer]:
    with SupabaseServer(her) as server:
        yield server


Start = Callable[..., Started]


@pytest.fixture
def start(spawn: Spawn, project: SupabaseServer) -> Start:
    """Starts an api process that signs in through the project."""

    def started(**environment: str) -> Started:
        named = {"SUPABASE_URL": f"{project.url}/", "SUPABASE_ANON_KEY": ANON_KEY, "SUPABASE_JWT_SECRET": SECRET}
        return spawn.api(**(named | environment))

    return started


@pytest.fixture
def api(start: Start, ada: Person) -> Started:
    return start()


@pytest.fixture
async def page(api: Started) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(api.url) as client:
        yield client


async def ask(api: Started, token: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=api.url) as client:
        return await client.get("/api/auth/me", headers={"Authorization": f"Bearer {token}", **headers})


async def log_in(page: httpx.AsyncClient, user: Known) -> httpx.Response:
    return await page.post("/api/auth/login", json={"email": user.email, "password": user.password})


# Our own pages ----------------------------------------------------------------------------------------------------------


async def test_a_page_learns_how_people_sign_in_and_our_own_tokens_are_off(page: httpx.AsyncClient, project: SupabaseServer) -> None:
    config = (await page.get("/api/config")).json()
    assert (config["auth_mode"], config["auth_providers"]) == ("supabase", ["github"])
    elsewhere = await page.post("/auth/v1/token?grant_type=password", json={"email": "a@example.org", "password": PASSWORD})
    assert elsewhere.status_code == 404 and f"{project.url}/auth/v1" in elsewhere.json()["msg"]


async def test_a_password_at_supabase_opens_the_session_of_the_person_with_the_verified_address(
    page: httpx.AsyncClient, project: SupabaseServer, servers: Servers, ada: Person, her: Known
) -> None:
    signed = await log_in(page, her)
    assert signed.status_code == 200 and signed.json()["user"]["user_id"] == str(ada.user_id)
    assert (await page.get("/api/auth/me")).json()["account"]["account_id"] == str(ada.account_id)
    wrong = await page.post("/api/auth/login", json={"email": her.email, "password": "wrong"})
    assert (wrong.status_code, wrong.json()["detail"]) == (401, "Invalid login credentials")
    issued = list(project._refresh)
    kept = await admin(servers, "SELECT string_agg(encode(sealed, 'escape'), ' ') FROM supabase_sessions")
    assert kept and not any(token in kept for token in issued)
    assert await admin(servers, "SELECT count(*) FROM audit_log WHERE act = 'identity.linked'") == 1


@pytest.mark.parametrize(
    ("user", "autoconfirm"),
    [
        (Known("ada@example.org", PASSWORD, confirmed=False), False),
        (Known("ada@example.org", PASSWORD), True),  # the project confirms whatever is typed
        (Known("ada@example.org", PASSWORD, provider="github", email_verified=False), True),
    ],
)
async def test_an_address_that_nobody_verified_is_linked_to_nobody(
    start: Start, project: SupabaseServer, servers: Servers, ada: Person, user: Known, autoconfirm: bool
) -> None:
    project.users, project.autoconfirm = [user], autoconfirm
    api = start(VIBE_SIGN_UP="open")
    async with browser(api.url) as page:
        refused = await log_in(page, user)
        assert refused.status_code == 403 and "vibe_session" not in page.cookies
    assert (await ask(api, project.token(user))).status_code == 403
    assert await admin(servers, "SELECT count(*) FROM identities") == 0


async def test_an_address_that_was_never_proved_here_is_not_taken_over(
    start: Start, project: SupabaseServer, servers: Servers, ada: Person, her: Known
) -> None:
    """Else whoever signs up here first with somebody's address would share his account."""
    await admin(servers, "UPDATE users SET email_confirmed_at = NULL")
    async with browser(start(VIBE_SIGN_UP="open").url) as page:
        assert (await log_in(page, her)).status_code == 403


async def test_two_users_of_supabase_are_never_one_person_here(page: httpx.AsyncClient, project: SupabaseServer, her: Known) -> None:
    assert (await log_in(page, her)).status_code == 200
    project.users = [Known(her.email, PASSWORD)]
    assert (await log_in(page, project.users[0])).status_code == 403


async def test_a_stranger_becomes_a_person_where_sign_up_is_open_or_he_is_invited(
    start: Start, project: SupabaseServer, servers: Servers, ada: Person
) -> None:
    eve = Known("eve@example.org", PASSWORD, metadata={"full_name": "Eve"})
    project.users.append(eve)
    closed = start(VIBE_SIGN_UP="invitation")
    async with browser(closed.url) as page:
        assert (await log_in(page, eve)).status_code == 403
        assert (await ask(closed, project.token(eve))).status_code == 403
        invite = """INSERT INTO invitations (invitation_id, account_id, email, role, token_hash, expires_at)
                    VALUES ($1, $2, 'EVE@example.org', 'viewer', 'h', now() + interval '1 day')"""
        await admin(servers, invite, uuid4(), ada.account_id)
        assert (await log_in(page, eve)).json()["user"]["name"] == "Eve"
    bob = Known("bob@example.org", PASSWORD)
    project.users.append(bob)
    opened = start(VIBE_SIGN_UP="open")
    answers = await asyncio.gather(*(ask(opened, project.token(bob)) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["user"]["user_id"] for answer in answers}) == 1
    assert answers[0].json()["account"]["role"] == "owner"
    assert await admin(servers, "SELECT count(*) FROM accounts") == 3


async def test_many_processes_refresh_one_session_once_and_a_banned_person_is_out(
    start: Start, api: Started, page: httpx.AsyncClient, project: SupabaseServer, servers: Servers, ada: Person, her: Known
) -> None:
    await log_in(page, her)
    await admin(servers, "UPDATE supabase_sessions SET due_at = now()")
    others = [start(), start()]
    cookies = {"vibe_session": page.cookies["vibe_session"]}
    async with httpx.AsyncClient(cookies=cookies) as client:
        answers = await asyncio.gather(*(client.get(f"{one.url}/api/auth/me") for one in others for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200} and project.refreshes == 1
        assert await admin(servers, "SELECT due_at > now() + interval '50 minutes' FROM supabase_sessions")
        her.banned = True
        await admin(servers, "UPDATE supabase_sessions SET due_at = now()")
        out = await client.get(f"{start().url}/api/auth/me")
        assert out.status_code == 401
        assert (await client.get(f"{others[0].url}/api/auth/me")).status_code == 401
    assert await admin(servers, "SELECT count(*) FROM sessions") == 0


async def test_while_supabase_is_away_browsers_stay_signed_in(
    start: Start, page: httpx.AsyncClient, project: SupabaseServer, servers: Servers, ada: Person, her: Known
) -> None:
    await log_in(page, her)
    project.down = True
    await admin(servers, "UPDATE supabase_sessions SET due_at = now()")
    other = start()
    async with httpx.AsyncClient(base_url=other.url, cookies={"vibe_session": page.cookies["vibe_session"]}) as client:
        assert (await client.get("/api/auth/me")).status_code == 200
        refused = await client.post("/api/auth/login", json={"email": her.email, "password": PASSWORD}, headers={"Sec-Fetch-Site": "same-origin"})
        assert refused.status_code == 502
        assert (await client.get("/api/config")).json()["auth_providers"] == []
    assert await admin(servers, "SELECT count(*) FROM sessions") == 1


# Mailed links and providers ---------------------------------------------------------------------------------------------


async def test_a_provider_signs_a_browser_in_and_it_comes_back_to_its_page(
    page: httpx.AsyncClient, project: SupabaseServer, ada: Person, her: Known
) -> None:
    gone = await page.get("/api/auth/oauth/github?next=/threads/7")
    assert gone.status_code == 303 and gone.headers["location"].startswith(f"{project.url}/auth/v1/authorize?provider=github&")
    cookie = gone.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "path=/api/auth" in cookie
    async with httpx.AsyncClient() as outside:
        assert (await outside.get(gone.headers["location"])).status_code == 302  # the stand-in finds the request good
    back = project.sign_in_elsewhere(gone.headers["location"], her)
    signed = await page.get(back)
    assert (signed.status_code, signed.headers["location"]) == (303, "/threads/7")
    assert (await page.get("/api/auth/me")).json()["user"]["user_id"] == str(ada.user_id)
    assert (await page.get("/api/auth/oauth/google")).status_code == 404  # not turned on in the project


@pytest.mark.parametrize("next", ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "evil"])
async def test_no_sign_in_ends_on_another_site(page: httpx.AsyncClient, project: SupabaseServer, her: Known, next: str) -> None:
    gone = await page.get("/api/auth/oauth/github", params={"next": next})
    signed = await page.get(project.sign_in_elsewhere(gone.headers["location"], her))
    assert signed.headers["location"] == "/"


async def test_a_code_that_another_browser_began_signs_nobody_in(
    api: Started, page: httpx.AsyncClient, project: SupabaseServer, her: Known
) -> None:
    """Else somebody could sign his victim in as himself."""
    begun = await page.get("/api/auth/oauth/github")
    back = project.sign_in_elsewhere(begun.headers["location"], her)
    async with browser(api.url) as victim:
        for prepare in (None, "/api/auth/oauth/github"):
            if prepare:
                await victim.get(prepare)
            refused = await victim.get(back)
            assert refused.headers["location"].startswith("/login?problem=") and "vibe_session" not in victim.cookies
    said = await page.get("/api/auth/callback", params={"error_description": "denied <b>"})
    assert said.headers["location"] == "/login?problem=denied%20%3Cb%3E"


async def test_a_mailed_link_signs_in_the_browser_that_asked_for_it(
    page: httpx.AsyncClient, project: SupabaseServer, ada: Person, her: Known
) -> None:
    asked = await page.post("/api/auth/magic-link", json={"email": her.email})
    unknown = await page.post("/api/auth/magic-link", json={"email": "nobody@example.org"})
    assert asked.status_code == unknown.status_code == 202 and asked.json() == unknown.json()
    assert [to for to, _ in project.mails] == [her.email]
    assert project.sent[-1]["create_user"] is False
    await page.post("/api/auth/magic-link", json={"email": her.email})
    signed = await page.get(project.mails[-1][1])
    assert signed.headers["location"] == "/"
    assert (await page.get("/api/auth/me")).json()["user"]["user_id"] == str(ada.user_id)


# Programs with Supabase's access tokens ---------------------------------------------------------------------------------


async def test_tokens_are_checked_by_published_key_and_by_legacy_secret(
    start: Start, api: Started, project: SupabaseServer, ada: Person, her: Known
) -> None:
    for token in (project.token(her), project.token(her, secret=SECRET)):
        answer = await ask(api, token)
        assert answer.status_code == 200 and answer.json()["user"]["user_id"] == str(ada.user_id)
    without = start(SUPABASE_JWT_SECRET="")
    assert (await ask(without, project.token(her, secret=SECRET))).status_code == 401
    assert (await ask(without, project.token(her))).status_code == 200


async def test_a_new_key_is_learnt_once_and_invented_ones_do_not_make_us_ask(api: Started, project: SupabaseServer, ada: Person, her: Known) -> None:
    assert (await ask(api, project.token(her))).status_code == 200
    assert project.key_reads == 1
    for _ in range(20):
        assert (await ask(api, project.token(her, header={"kid": str(uuid4())}))).status_code == 401
    assert project.key_reads == 1  # asked a moment ago
    project.down = True
    assert (await ask(api, project.token(her))).status_code == 200


async def test_forged_and_foreign_tokens_of_supabase_are_refused(api: Started, project: SupabaseServer, ada: Person, her: Known) -> None:
    now = int(time.time())
    public = project.keys[project.kid].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    good = project.token(her)
    head, body, mac = good.split(".")
    tried = {
        "another audience": project.token(her, aud="anon"),
        "another issuer": project.token(her, iss="https://evil.example/auth/v1"),
        "over": project.token(her, exp=now - 60),
        "never over": project.token(her, exp=None),
        "not yet begun": project.token(her, nbf=now + 60),
        "the anonymous role": project.token(her, role="anon"),
        "the service role": project.token(her, role="service_role", secret=SECRET),
        "nobody": project.token(her, sub=None),
        "no person": project.token(her, sub="1; DROP TABLE users"),
        "another secret": project.token(her, secret="another secret that is long enough for HS256"),
        "an unknown key": project.token(her, header={"kid": "unknown"}),
        "no signature": f"{head}.{body}.",
        "another signature": f"{head}.{body}.{mac[::-1]}",
    }
    forged = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": project.kid}).encode()).rstrip(b"=").decode() + f".{body}"
    signature = base64.urlsafe_b64encode(hmac.digest(pem.encode(), forged.encode(), hashlib.sha256)).rstrip(b"=").decode()
    tried["the public key as a secret"] = f"{forged}.{signature}"
    for name, token in tried.items():
        assert (await ask(api, token)).status_code == 401, name
    assert (await ask(api, good)).status_code == 200
    stranger = await ask(api, good, **{"X-Account-Id": str(uuid4())})
    assert stranger.status_code == 403
