"""Signing in through Supabase: its people become people here, its sessions stand behind ours.

A browser gets a session of ours; the Supabase session behind it is kept sealed and refreshed when it is due, by one asker at a time, so that whoever
is signed out or banned there is out here within the hour. A program brings Supabase's own access token.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import secrets
import time
from dataclasses import dataclass
from uuid import UUID

import orjson
from redis.asyncio import Redis

from backend.accounts import repository as accounts_repository
from backend.accounts import service as accounts
from backend.accounts.schemas import Login, Me
from backend.accounts.service import Caller, WrongCredentials, digest
from backend.accounts.supabase import repository
from backend.accounts.supabase.client import Grant, GrantRefused, ProjectSettings, SupabaseAuth, SupabaseUser
from backend.accounts.supabase.keys import SupabaseKeys
from backend.accounts.tokens import EndedSession, NoMember
from backend.kit import limits
from backend.kit.db import Database
from backend.kit.ids import uuid7
from backend.kit.problems import Forbidden, NotFound, Problem, Unauthorized, UpstreamFailed, UpstreamTimeout
from backend.kit.seal import Sealer, WrongSecretKey
from backend.kit.settings import Settings

log = logging.getLogger(__name__)
FLOW_SECONDS = 3600
_SETTINGS_SECONDS = 300.0
_LOOK_SECONDS = 60.0
_PAGE_WAITS_SECONDS = 3.0
_MAX_LOOKED = 20_000
_SEALED_SESSION, _SEALED_FLOW = "supabase session", "sign-in flow"
_METHODS = frozenset({"email", "phone", "anonymous_users"})


class NotInvited(Forbidden):
    """Nobody here knows you yet, and signing up is closed; ask for an invitation"""


class AddressNotVerified(Forbidden):
    """Supabase has not verified your address, so it cannot stand for the person who has it here"""


class AddressNotProved(Forbidden):
    """Somebody signed up here with your address and never proved that it is his; ask the operator"""


class OtherIdentity(Forbidden):
    """The person with this address here signs in with another Supabase user"""


class NoAddress(Forbidden):
    """Your Supabase user has no mail address"""


class StaleSignIn(Forbidden):
    """This sign-in was not begun in this browser, or too long ago; begin again"""


@dataclass(frozen=True)
class Flow:
    """A sign-in that leads over another site: what the browser keeps (sealed), and where it goes."""

    cookie: str
    url: str


class Supabase:
    """Signing in through one Supabase project."""

    def __init__(self, settings: Settings, database: Database, redis: Redis, sealer: Sealer) -> None:
        self._client = SupabaseAuth(settings)
        secret = settings.supabase_jwt_secret.get_secret_value() if settings.supabase_jwt_secret else None
        self._keys = SupabaseKeys(self._client.base, secret, self._client.keys)
        self._sign_up, self._database, self._redis, self._sealer = settings.vibe_sign_up, database, redis, sealer
        self._offered: tuple[float, ProjectSettings] | None = None
        self._looked: dict[bytes, float] = {}
        self._away_until = 0.0

    async def close(self) -> None:
        """Close the connections to Supabase."""
        await self._client.close()

    # Programs, with Supabase's access token ---------------------------------------------------------------------------

    async def caller(self, token: str, account_id: UUID | None) -> Caller:
        """Who asks with this token of Supabase's; he becomes a person here when he is seen first. Raises `InvalidToken`, `NoMember` and what
        a first sight raises."""
        access = await self._keys.check(token)
        row = await repository.by_identity(self._database, access.subject, account_id)
        if row is None:
            await limits.hit(self._redis, f"supabase:first:{access.subject}", limit=10, seconds=300)
            try:
                user = await self._client.user(token)
            except GrantRefused as error:
                raise EndedSession() from error
            if user.id != str(access.subject):
                raise EndedSession()
            await self._first_sight(user)
            row = await repository.by_identity(self._database, access.subject, account_id)
        if row is None or row["role"] is None:
            raise NoMember()
        return Caller(row["account_id"], row["user_id"], row["role"], "session", access.session_id)

    # Browsers ---------------------------------------------------------------------------------------------------------

    async def log_in(self, login: Login, address: str, user_agent: str) -> tuple[str, Me]:
        """A browser's session for an address and its password at Supabase. Raises `WrongCredentials`, `TooManyRequests`."""
        tries = await accounts.count_try(self._redis, login.email, address)
        try:
            grant = await self._client.password(login.email, login.password)
        except GrantRefused as refused:
            raise WrongCredentials(refused.detail) from refused
        await limits.clear(self._redis, tries)
        return await self._open(grant, address, user_agent)

    async def mail_link(self, email: str, callback: str, address: str) -> Flow:
        """Have a link mailed that signs this browser in. Whether Supabase knows the address is not said."""
        await limits.hit(self._redis, f"magic:{accounts.network_of(address)}", limit=20, seconds=300)
        await limits.hit(self._redis, f"magic:mail:{digest(email.lower()).hex()[:32]}", limit=3, seconds=300)
        flow, challenge, back = self._flow(callback, "/")
        create = self._sign_up == "open" or await repository.is_invited(self._database, email)
        try:
            await self._client.mail_link(email, back, challenge, create=create)
        except GrantRefused as refused:
            log.info("Supabase mails no link", extra={"said": refused.detail})
        return Flow(flow, "")

    async def begin(self, provider: str, callback: str, after: str) -> Flow:
        """Send a browser to a provider. Raises `NotFound` when the project does not offer it."""
        if provider not in await self.providers():
            raise NotFound(f"Signing in with {provider} is not offered here.")
        flow, challenge, back = self._flow(callback, after)
        return Flow(flow, self._client.authorize_url(provider, back, challenge))

    async def finish(self, code: str, state: str, cookie: str | None, address: str, user_agent: str) -> tuple[str, str]:
        """A browser has come back with a code: its session's token, and the page that it wanted. Raises `StaleSignIn`."""
        kept = self._opened_flow(cookie)
        if kept is None or not hmac.compare_digest(str(kept["state"]), state):
            raise StaleSignIn()
        try:
            grant = await self._client.exchange(code, str(kept["verifier"]))
        except GrantRefused as refused:
            raise StaleSignIn(refused.detail) from refused
        token, _ = await self._open(grant, address, user_agent)
        return token, str(kept["after"])

    async def providers(self) -> list[str]:
        """The providers that the project offers, beside passwords and mails."""
        offered = await self._project()
        return sorted(name for name, on in offered.external.items() if on and name not in _METHODS)

    async def offered(self) -> list[str]:
        """`providers`, or none while Supabase cannot be asked: passwords are offered all the same."""
        if time.monotonic() < self._away_until:
            return []
        try:
            async with asyncio.timeout(_PAGE_WAITS_SECONDS):
                return await self.providers()
        except (Problem, TimeoutError) as error:
            self._away_until = time.monotonic() + _LOOK_SECONDS
            log.warning("Supabase could not be asked what it offers", extra={"error": str(error)})
            return []

    async def keep_alive(self, token: str, caller: Caller) -> None:
        """Refresh the Supabase session behind a browser's when it is due. Raises `Unauthorized` when it is over there; while Supabase is away,
        the browser stays signed in."""
        key, moment = digest(token), time.monotonic()
        if self._looked.get(key, 0.0) > moment:
            return
        if len(self._looked) >= _MAX_LOOKED:
            self._looked = {one: until for one, until in self._looked.items() if until > moment}
        self._looked[key] = moment + _LOOK_SECONDS
        sealed = await repository.claim_refresh(self._database, key)
        if sealed is None:
            return
        try:
            grant = await self._client.refresh(self._sealer.open(_SEALED_SESSION, str(caller.user_id), sealed))
        except (GrantRefused, WrongSecretKey) as over:
            async with self._database.transaction(caller.account_id) as session:
                await accounts_repository.end_sessions(session, caller.user_id, only=caller.credential_id)
                await accounts.audit(session, caller.user_id, "session.ended", str(caller.credential_id), {"by": "supabase"})
            raise Unauthorized("Your session at Supabase has ended: sign in again.") from over
        except (UpstreamFailed, UpstreamTimeout) as away:
            log.warning("Supabase could not be asked whether a session lasts", extra={"error": str(away)})
            return
        await self._keep(token, caller.user_id, grant)

    async def _open(self, grant: Grant, address: str, user_agent: str) -> tuple[str, Me]:
        subject = UUID(grant.user.id)
        row = await repository.by_identity(self._database, subject, None)
        if row is None:
            await self._first_sight(grant.user)
            row = await repository.by_identity(self._database, subject, None)
        if row is None or row["role"] is None:
            raise NoMember()
        async with self._database.transaction(row["account_id"]) as session:
            token = await accounts.open_session(session, row["user_id"], address, user_agent)
            person = await accounts.me(session, row["user_id"])
        await self._keep(token, row["user_id"], grant)
        return token, person

    async def _keep(self, token: str, user_id: UUID, grant: Grant) -> None:
        sealed = self._sealer.seal(_SEALED_SESSION, str(user_id), grant.refresh_token)
        await repository.keep_session(self._database, digest(token), sealed, max(60, grant.expires_in - 60))

    # First sight ------------------------------------------------------------------------------------------------------

    async def _first_sight(self, user: SupabaseUser) -> None:
        """Make a person of Supabase's one of ours: the one who has his verified address, or a new one where VIBE_SIGN_UP or an invitation lets him."""
        if not user.email:
            raise NoAddress()
        subject, verified = UUID(user.id), await self._has_verified(user)
        outcome = await repository.link(self._database, subject, user.email) if verified else "unverified"
        match outcome:
            case "linked":
                return await self._note(subject, "identity.linked")
            case "unconfirmed":
                raise AddressNotProved()
            case "taken":
                raise OtherIdentity()
        if self._sign_up != "open" and not (verified and await repository.is_invited(self._database, user.email)):
            raise NotInvited()
        name = next((str(v)[:200] for k in ("name", "full_name") if (v := user.user_metadata.get(k))), user.email.partition("@")[0])
        made = await repository.create_person(
            self._database, uuid7(), uuid7(), subject, user.email, name, {}, confirmed=verified
        )
        if made:
            return await self._note(subject, "person.signed_up")
        if await accounts.setup_required(self._database):
            raise NotInvited("This installation has no owner yet: its setup link makes him first.")
        # Somebody has the address: this very person in another request a moment ago, or somebody else.
        if await repository.by_identity(self._database, subject, None) is None:
            raise AddressNotVerified()

    async def _has_verified(self, user: SupabaseUser) -> bool:
        """Whether the address is really his. Where a project confirms addresses by itself, only a provider that has checked it counts."""
        if user.email_confirmed_at is None or not user.email:
            return False
        if not (await self._project()).mailer_autoconfirm:
            return True
        return any(
            one.provider not in _METHODS
            and str((one.identity_data or {}).get("email", "")).lower() == user.email.lower()
            and (one.identity_data or {}).get("email_verified") is True
            for one in user.identities or []
        )

    async def _note(self, subject: UUID, act: str) -> None:
        row = await repository.by_identity(self._database, subject, None)
        assert row is not None
        async with self._database.transaction(row["account_id"]) as session:
            await accounts.audit(session, row["user_id"], act, str(subject), {"provider": repository.PROVIDER})

    async def _project(self) -> ProjectSettings:
        if self._offered is None or time.monotonic() - self._offered[0] > _SETTINGS_SECONDS:
            self._offered = (time.monotonic(), await self._client.settings())
        return self._offered[1]

    # A sign-in that leads over another site ----------------------------------------------------------------------------

    def _flow(self, callback: str, after: str) -> tuple[str, str, str]:
        """What the browser keeps (sealed), the challenge (S256), and where it is to come back."""
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
        kept = {"state": state, "verifier": verifier, "after": after, "until": int(time.time()) + FLOW_SECONDS}
        sealed = self._sealer.seal(_SEALED_FLOW, "browser", orjson.dumps(kept).decode())
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        return base64.urlsafe_b64encode(sealed).decode(), challenge, f"{callback}?state={state}"

    def _opened_flow(self, cookie: str | None) -> dict[str, str | int] | None:
        try:
            sealed = base64.urlsafe_b64decode(cookie or "")
            kept: dict[str, str | int] = orjson.loads(self._sealer.open(_SEALED_FLOW, "browser", sealed))
        except (ValueError, WrongSecretKey):
            return None
        return kept if int(kept["until"]) > time.time() else None
