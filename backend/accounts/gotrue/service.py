"""Signing in with tokens, as Supabase's clients do: the people, passwords, limits and sessions are those of `accounts.service`.

A token session is a row of `sessions` like a browser's, so it is listed, ended and forgotten with them. An access token is looked up with its
session at each request: a session that has ended is refused at once.
"""

import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from backend.accounts import repository as accounts_repository
from backend.accounts import service as accounts
from backend.accounts.gotrue import repository
from backend.accounts.gotrue.mail import Mailer
from backend.accounts.gotrue.schemas import (
    Identity,
    Scope,
    SignUp,
    TokenSession,
    TokenSettings,
    TokenUser,
    UserUpdate,
)
from backend.accounts.schemas import Login
from backend.accounts.service import digest
from backend.accounts.tokens import ACCESS_SECONDS, Tokens, new_secret
from backend.kit import limits
from backend.kit.clock import now
from backend.kit.db import Database, Row
from backend.kit.ids import uuid7
from backend.kit.problems import Problem
from backend.kit.settings import Settings

MIN_PASSWORD = 10
RECOVERY_MINUTES = 60
_FRESH = timedelta(hours=24)


class AuthRefused(Problem):
    """The request was refused; `error_code` is the word that Supabase's clients know for it"""

    status = 400
    error_code = "validation_failed"


class SignUpClosed(AuthRefused):
    """Signups not allowed for this instance"""

    status = 422
    error_code = "signup_disabled"


class AddressTaken(AuthRefused):
    """User already registered"""

    status = 422
    error_code = "user_already_exists"


class WeakPassword(AuthRefused):
    """Password should be at least 10 characters"""

    status = 422
    error_code = "weak_password"


class SamePassword(AuthRefused):
    """New password should be different from the old password"""

    status = 422
    error_code = "same_password"


class AddressStays(AuthRefused):
    """The email address cannot be changed here"""

    status = 422
    error_code = "email_address_not_authorized"


class ProvePassword(AuthRefused):
    """This session is older than a day: send current_password too"""

    error_code = "reauthentication_needed"


class UnknownRefreshToken(AuthRefused):
    """Invalid Refresh Token: Refresh Token Not Found"""

    error_code = "refresh_token_not_found"


class RefreshTokenReused(AuthRefused):
    """Invalid Refresh Token: Already Used"""

    error_code = "refresh_token_already_used"


class SessionOver(AuthRefused):
    """Invalid Refresh Token: Session Expired"""

    error_code = "session_expired"


class SessionGone(AuthRefused):
    """Session from session_id claim in JWT does not exist"""

    status = 403
    error_code = "session_not_found"


class LinkOver(AuthRefused):
    """Email link is invalid or has expired"""

    status = 403
    error_code = "otp_expired"


class Who:
    """A person at one end of a connection."""

    __slots__ = ("address", "user_agent")

    def __init__(self, address: str, user_agent: str) -> None:
        self.address, self.user_agent = address, user_agent


def settings_view(settings: Settings) -> TokenSettings:
    """What can be done here."""
    return TokenSettings(external={"email": True, "phone": False, "anonymous_users": False}, disable_signup=settings.vibe_sign_up != "open")


async def sign_up(
    database: Database, redis: Redis, tokens: Tokens, settings: Settings, new: SignUp, who: Who
) -> TokenSession:
    """Make a person and sign him in. Raises `SignUpClosed`, `WeakPassword`, `AddressTaken`."""
    if settings.vibe_sign_up != "open" or await accounts.setup_required(database):
        raise SignUpClosed()
    _strong(new.password)
    await limits.hit(redis, f"sign-up:{accounts.network_of(who.address)}", limit=20, seconds=300)
    user_id, account_id = uuid7(), uuid7()
    name = _name_in(new.data) or new.email.partition("@")[0]
    hashed = await accounts.passwords.hash(new.password)
    made = await repository.create_person(
        database, user_id, account_id, new.email, name, hashed, new.data, confirmed=False
    )
    if not made:
        raise AddressTaken()
    return await _open(database, tokens, user_id, account_id, "password", who)


async def sign_in(database: Database, redis: Redis, tokens: Tokens, login: Login, who: Who) -> TokenSession:
    """A session for an address and its password. Raises `WrongCredentials`, `TooManyRequests`."""
    known = await accounts.check_login(database, redis, login, who.address)
    return await _open(database, tokens, known["user_id"], known["account_id"], "password", who)


async def refresh(database: Database, tokens: Tokens, refresh_token: str) -> TokenSession:
    """The next tokens of a session. Raises `UnknownRefreshToken`, `RefreshTokenReused` (which ends the session), `SessionOver`."""
    following = digest(tokens.next_refresh(refresh_token))
    row = await repository.use_refresh_token(database, digest(refresh_token), following, accounts.SESSION_DAYS)
    match row["outcome"]:
        case "unknown":
            raise UnknownRefreshToken()
        case "expired":
            raise SessionOver()
        case "reused":
            async with database.transaction(row["account_id"]) as session:
                await accounts.audit(session, row["whose"], "session.reused", str(row["session_id"]))
            raise RefreshTokenReused()
    last = tokens.next_refresh(refresh_token, row["steps"])
    return await _said(tokens, row, row["session_id"], last, row["method"], row["opened_at"].timestamp())


async def read_user(database: Database, user_id: UUID) -> TokenUser:
    """A person. Raises `SessionGone` when he is no more."""
    return _user(await _person(database, user_id))


async def update_user(
    database: Database, redis: Redis, user_id: UUID, account_id: UUID, session_id: UUID, update: UserUpdate
) -> TokenUser:
    """Change a person's data or password; a new password ends his other sessions. A session of the last day need not prove the current one."""
    person = await _person(database, user_id)
    if update.email is not None and update.email.lower() != person["email"].lower():
        raise AddressStays()
    hashed = None
    if update.password is not None:
        _strong(update.password)
        await _prove(database, redis, person, session_id, update)
        hashed = await accounts.passwords.hash(update.password)
    async with database.transaction(account_id) as session:
        if update.data:
            await repository.update_person(session, user_id, _name_in(update.data), update.data)
        if hashed is not None:
            await accounts_repository.set_password(session, user_id, hashed)
            ended = await accounts_repository.end_sessions(session, user_id, but=session_id)
            await accounts.audit(session, user_id, "password.changed", detail={"sessions_ended": ended})
    return await read_user(database, user_id)


async def _prove(database: Database, redis: Redis, person: Row, session_id: UUID, update: UserUpdate) -> None:
    assert update.password is not None
    await limits.hit(redis, f"password:{person['user_id']}", limit=10, seconds=300)
    if update.current_password is not None:
        if not await accounts.passwords.verify(person["password_hash"], update.current_password):
            raise accounts.WrongPassword()
    else:
        row = await accounts_repository.token_session(database, session_id, person["user_id"], None)
        if row is None:
            raise SessionGone()
        if now() - row["opened_at"] > _FRESH:
            raise ProvePassword()
    if await accounts.passwords.verify(person["password_hash"], update.password):
        raise SamePassword()


async def sign_out(database: Database, user_id: UUID, account_id: UUID, session_id: UUID, scope: Scope) -> None:
    """End this session, all of the person's (browsers' too), or all others."""
    only = session_id if scope == "local" else None
    but = session_id if scope == "others" else None
    async with database.transaction(account_id) as session:
        ended = await accounts_repository.end_sessions(session, user_id, only=only, but=but)
        await accounts.audit(session, user_id, "logout", str(session_id), {"scope": scope, "sessions_ended": ended})


# Recovery ---------------------------------------------------------------------------------------------------------------


async def recover(database: Database, redis: Redis, mailer: Mailer, email: str, redirect_to: str | None, who: Who) -> None:
    """Mail a way back to whoever has this address; the same answer, as fast, when nobody has. Raises `TooManyRequests`."""
    await limits.hit(redis, f"recover:{accounts.network_of(who.address)}", limit=20, seconds=300)
    await limits.hit(redis, f"recover:mail:{digest(email.lower()).hex()[:32]}", limit=3, seconds=300)
    mailer.later(_recover(database, mailer, email, redirect_to))


async def _recover(database: Database, mailer: Mailer, email: str, redirect_to: str | None) -> None:
    known = await accounts_repository.login(database, email)
    if known is None:
        return
    person = await _person(database, known["user_id"])
    if not mailer.configured:
        mailer.tell_operator(person["email"])
        return
    token = new_secret()
    await repository.put_recovery(database, person["user_id"], digest(token), RECOVERY_MINUTES)
    async with database.transaction(known["account_id"]) as session:
        await accounts.audit(session, person["user_id"], "recovery.mailed")
    await mailer.send_recovery(person["email"], person["name"], token, redirect_to, RECOVERY_MINUTES)


async def verify_recovery(
    database: Database, redis: Redis, tokens: Tokens, token: str, email: str | None, who: Who
) -> TokenSession:
    """A session for the token of a mail, once. Raises `LinkOver`."""
    await limits.hit(redis, f"verify:{accounts.network_of(who.address)}", limit=30, seconds=300)
    known = await repository.use_recovery(database, digest(token), email)
    if known is None:
        raise LinkOver()
    return await _open(database, tokens, known["user_id"], known["account_id"], "recovery", who)


# Sessions ---------------------------------------------------------------------------------------------------------------


async def _open(database: Database, tokens: Tokens, user_id: UUID, account_id: UUID, method: str, who: Who) -> TokenSession:
    session_id, first = uuid7(), new_secret()
    no_cookie = secrets.token_bytes(32)  # no cookie opens this session
    async with database.transaction(account_id) as session:
        network = accounts.network_of(who.address)
        person = await repository.open_session(
            session, session_id, user_id, no_cookie, digest(first), who.user_agent[:300], network, method, accounts.SESSION_DAYS
        )
        await accounts.audit(session, user_id, "login", str(session_id), {"address": who.address, "method": method})
    return await _said(tokens, person, session_id, first, method, now().timestamp())


async def _said(tokens: Tokens, person: Row, session_id: UUID, refresh_token: str, method: str, opened: float) -> TokenSession:
    user = _user(person)
    claims: dict[str, Any] = {
        "email": user.email,
        "phone": "",
        "app_metadata": user.app_metadata,
        "user_metadata": user.user_metadata,
        "aal": "aal1",
        "amr": [{"method": method, "timestamp": int(opened)}],
        "is_anonymous": False,
    }
    access_token, expires_at = await tokens.sign(user.id, session_id, claims)
    return TokenSession(
        access_token=access_token,
        expires_in=ACCESS_SECONDS,
        expires_at=expires_at,
        refresh_token=refresh_token,
        user=user,
    )


def _user(row: Row) -> TokenUser:
    verified = row["email_confirmed_at"] is not None
    user_id, email = row["user_id"], row["email"]
    identity = Identity(
        identity_id=user_id,
        id=str(user_id),
        user_id=user_id,
        identity_data={"sub": str(user_id), "email": email, "email_verified": verified, "phone_verified": False},
        email=email,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        last_sign_in_at=row["last_sign_in_at"],
    )
    return TokenUser(
        id=user_id,
        email=email,
        email_confirmed_at=row["email_confirmed_at"],
        confirmed_at=row["email_confirmed_at"],
        last_sign_in_at=row["last_sign_in_at"],
        app_metadata={"provider": "email", "providers": ["email"]},
        user_metadata={"name": row["name"]} | row["metadata"],
        identities=[identity],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def _person(database: Database, user_id: UUID) -> Row:
    row = await repository.person(database, user_id)
    if row is None:
        raise SessionGone()
    return row


def _strong(password: str) -> None:
    if len(password) < MIN_PASSWORD:
        raise WeakPassword(weak_password={"reasons": ["length"]})


def _name_in(data: dict[str, Any]) -> str | None:
    for key in ("name", "full_name"):
        if isinstance(data.get(key), str) and 0 < len(data[key]) <= 200:
            return str(data[key])
    return None
