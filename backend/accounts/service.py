"""Who is asking: the first owner, people's sessions, programs' keys.

Of a session's or key's secret only its SHA-256 is kept: they are 256 random bits, so a slow hash would add nothing. Passwords get
Argon2id, in threads of their own, a bounded number at a time.
"""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from redis.asyncio import Redis

from backend.accounts import repository
from backend.accounts.schemas import (
    SCOPES,
    Account,
    ApiKey,
    AuditEntry,
    CreatedApiKey,
    EndedSessions,
    Login,
    Me,
    NewApiKey,
    ProfileUpdate,
    Role,
    Scope,
    SessionView,
    Setup,
    User,
)
from backend.embedded.directory import write_private
from backend.kit import limits
from backend.kit.clock import now
from backend.kit.db import Database, Row, Session
from backend.kit.ids import uuid7
from backend.kit.pages import Page, decode_cursor, encode_cursor
from backend.kit.problems import Conflict, Forbidden, InvalidRequest, NotFound, TooManyRequests, Unauthorized
from backend.kit.seal import Sealer

SESSION_DAYS = 30
KEY_PREFIX = "vibe_"
_HASHES_AT_ONCE = 2  # each takes 64 MiB
_HASHES_WAITING = 40

Result = TypeVar("Result")
Right = Literal["read", "edit", "decide", "manage"]
_RIGHTS: dict[Role, frozenset[Right]] = {
    "owner": frozenset({"read", "edit", "decide", "manage"}),
    "editor": frozenset({"read", "edit"}),
    "approver": frozenset({"read", "decide"}),
    "viewer": frozenset({"read"}),
}
_SCOPE_OF: dict[Right, Scope] = {"read": "read", "edit": "write", "decide": "approve", "manage": "manage"}


class WrongCredentials(Unauthorized):
    """The email or the password is not right"""


class AlreadySetUp(Conflict):
    """This installation has an owner already"""


class WrongSetupToken(Forbidden):
    """This setup link is not valid; `vibe setup` prints a new one"""


class WrongPassword(Forbidden):
    """The current password is not right"""


class RoleForbids(Forbidden):
    """Your role does not allow this"""


class ScopeForbids(Forbidden):
    """This API key may not do that"""


class SignInFirst(Forbidden):
    """A key cannot do this: sign in"""


class KeyUsedTwice(Conflict):
    """This Idempotency-Key was used for another request"""


class NoOwner(Conflict):
    """Nobody is there yet: create the owner first"""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking: a person in an account, and how he came in. `credential_id` is the session's or the key's."""

    account_id: UUID
    user_id: UUID
    role: Role
    via: Literal["session", "key"]
    credential_id: UUID
    scopes: frozenset[Scope] | None = None  # of a key; a person has what his role has

    def require(self, right: Right) -> None:
        """Raise `RoleForbids` unless the role has this right, `ScopeForbids` unless the key has it too."""
        if right not in _RIGHTS[self.role]:
            raise RoleForbids(f"You are {self.role} here.")
        if self.scopes is not None and right != "read" and _SCOPE_OF[right] not in self.scopes:
            raise ScopeForbids(f"It lacks the scope `{_SCOPE_OF[right]}`.")

    def in_person(self) -> None:
        """Raise `SignInFirst` when a key asks."""
        if self.via == "key":
            raise SignInFirst()


# Passwords --------------------------------------------------------------------------------------------------------------


class Passwords:
    """Argon2id (RFC 9106's second recommended setting), a few at a time."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._waiting = 0
        self._nobodys = ""

    async def hash(self, password: str) -> str:
        """A password as it is stored."""
        return await self._run(lambda hasher: hasher.hash(password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether it is the password. Without a stored one the work is the same and the answer is no."""

        def check(hasher: PasswordHasher) -> bool:
            self._nobodys = self._nobodys or hasher.hash(secrets.token_urlsafe())
            try:
                return bool(hasher.verify(stored or self._nobodys, password)) and stored is not None
            except (VerificationError, InvalidHashError):
                return False

        return await self._run(check)

    async def _run(self, work: Callable[[PasswordHasher], Result]) -> Result:
        if self._waiting >= _HASHES_WAITING:
            raise TooManyRequests("Many people sign in right now.", headers={"Retry-After": "5"})
        self._threads = self._threads or ThreadPoolExecutor(_HASHES_AT_ONCE, thread_name_prefix="passwords")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, PasswordHasher())
        finally:
            self._waiting -= 1


passwords = Passwords()


# The first owner --------------------------------------------------------------------------------------------------------


async def setup_required(database: Database) -> bool:
    """Whether nobody is there yet."""
    return not await repository.has_owner(database)


async def issue_setup_token(database: Database) -> str:
    """A new one-time token for `/setup`; the one before it is worthless now. Raises `AlreadySetUp`."""
    if await repository.has_owner(database):
        raise AlreadySetUp()
    token = secrets.token_urlsafe(32)
    await repository.put_setup_token_hash(database, digest(token).hex())
    return token


async def set_up(
    database: Database, redis: Redis, new: Setup, address: str, user_agent: str
) -> tuple[str, Me]:
    """Make the owner with the one-time token, and sign him in. Raises `AlreadySetUp`, `WrongSetupToken`."""
    await limits.hit(redis, f"setup:{network_of(address)}", limit=20, seconds=300)
    if await repository.has_owner(database):
        raise AlreadySetUp()
    expected = await repository.setup_token_hash(database)
    if expected is None or not hmac.compare_digest(expected, digest(new.token).hex()):
        raise WrongSetupToken()
    owner = await create_owner(database, new.email, new.name, new.password)
    async with database.transaction(owner.account.account_id) as session:
        return await open_session(session, owner.user.user_id, address, user_agent), owner


async def create_owner(database: Database, email: str, name: str, password: str) -> Me:
    """Make the first person and his account: once, however many ask. Raises `AlreadySetUp`."""
    user_id, account_id = uuid7(), uuid7()
    made = await repository.create_owner(
        database, user_id, account_id, email, name, await passwords.hash(password)
    )
    if not made:
        raise AlreadySetUp()
    async with database.transaction(account_id) as session:
        await audit(session, user_id, "owner.created", str(user_id))
        return await me(session, user_id)


# People -----------------------------------------------------------------------------------------------------------------


async def log_in(
    database: Database, redis: Redis, login: Login, address: str, user_agent: str
) -> tuple[str, Me]:
    """A new session's token and who it is. Raises `WrongCredentials`, `TooManyRequests`."""
    known = await check_login(database, redis, login, address)
    async with database.transaction(known["account_id"]) as session:
        token = await open_session(session, known["user_id"], address, user_agent)
        return token, await me(session, known["user_id"])


async def check_login(database: Database, redis: Redis, login: Login, address: str) -> Row:
    """Whose address and password it is: `user_id` and `account_id`. Raises `WrongCredentials`, `TooManyRequests`."""
    tries = await count_try(redis, login.email, address)
    known = await repository.login(database, login.email)
    right = await passwords.verify(known["password_hash"] if known else None, login.password)
    if known is None:
        raise WrongCredentials()
    if not right:
        async with database.transaction(known["account_id"]) as session:
            await audit(session, known["user_id"], "login.failed", detail={"address": address})
        raise WrongCredentials()
    await limits.clear(redis, tries)
    return known


async def count_try(redis: Redis, email: str, address: str) -> str:
    """Count one try to sign in; the name of the limit that a success clears. Raises `TooManyRequests`."""
    mail, network = digest(email.lower()).hex()[:32], network_of(address)
    # Tight for one mail from one place, wider for the mail alone, so that a stranger cannot lock its owner out.
    tries = f"login:{mail}:{network}"
    await limits.hit(redis, f"login:from:{network}", limit=100, seconds=300)
    await limits.hit(redis, tries, limit=10, seconds=300)
    await limits.hit(redis, f"login:mail:{mail}", limit=200, seconds=300)
    return tries


async def open_session(session: Session, user_id: UUID, address: str, user_agent: str) -> str:
    """A new session's token: a person signs in."""
    token, session_id = secrets.token_urlsafe(32), uuid7()
    await repository.add_session(
        session, session_id, user_id, digest(token), user_agent[:300], network_of(address)[:100], SESSION_DAYS
    )
    await audit(session, user_id, "login", str(session_id), {"address": address})
    return token


async def log_out(session: Session, caller: Caller) -> None:
    """End the session that asks."""
    if caller.via == "session":
        await repository.end_session(session, caller.credential_id)
        await audit(session, caller.user_id, "logout", str(caller.credential_id))


async def me(session: Session, user_id: UUID) -> Me:
    """A person and his account."""
    row = await _person(session, user_id)
    return Me(
        user=User(user_id=row["user_id"], email=row["email"], name=row["name"]),
        account=Account(account_id=row["account_id"], name=row["account_name"], role=row["role"]),
    )


async def update_me(database: Database, redis: Redis, caller: Caller, update: ProfileUpdate) -> Me:
    """Change a person's name or password. A new password ends his other sessions. Raises `WrongPassword`."""
    new_hash = None
    if update.new_password is not None:
        if update.current_password is None:
            raise InvalidRequest("A new password wants the current one beside it.")
        await check_password(database, redis, caller, update.current_password)
        new_hash = await passwords.hash(update.new_password)
    async with database.transaction(caller.account_id) as session:
        if update.name is not None:
            await repository.set_name(session, caller.user_id, update.name)
        if new_hash is not None:
            await repository.set_password(session, caller.user_id, new_hash)
            kept = caller.credential_id
            ended = await repository.end_sessions(session, caller.user_id, but=kept)
            await audit(session, caller.user_id, "password.changed", detail={"sessions_ended": ended})
        return await me(session, caller.user_id)


async def reset_password(database: Database, email: str, password: str) -> None:
    """Set a forgotten password, as whoever holds the machine may, and end every session of the person. Raises `NotFound`."""
    person = await repository.login(database, email)
    if person is None:
        raise NotFound(f"Nobody here has the email {email}.")
    new_hash = await passwords.hash(password)
    async with database.transaction(person["account_id"]) as session:
        await repository.set_password(session, person["user_id"], new_hash)
        ended = await repository.end_sessions(session, person["user_id"])
        await audit(session, person["user_id"], "password.reset", detail={"sessions_ended": ended})


async def check_password(database: Database, redis: Redis, caller: Caller, password: str) -> None:
    """Whether it is really he. Raises `WrongPassword`, `TooManyRequests`."""
    await limits.hit(redis, f"password:{caller.user_id}", limit=10, seconds=300)
    async with database.transaction(caller.account_id) as session:
        stored = (await _person(session, caller.user_id))["password_hash"]
    if not await passwords.verify(stored, password):
        raise WrongPassword()


async def _person(session: Session, user_id: UUID) -> Row:
    row = await repository.me(session, user_id)
    if row is None:
        raise NotFound()
    return row


# Credentials ------------------------------------------------------------------------------------------------------------


async def by_session(database: Database, token: str) -> Caller | None:
    """Who a session's token belongs to, in one round trip; once an hour its life begins anew."""
    row = await repository.by_session(database, digest(token))
    if row is None:
        return None
    if row["stale"]:
        async with database.transaction(row["account_id"]) as session:
            await repository.use_session(session, row["session_id"], SESSION_DAYS)
    return Caller(row["account_id"], row["user_id"], row["role"], "session", row["session_id"])


async def by_key(database: Database, key: str) -> Caller | None:
    """Who an API key speaks for, in one round trip; once a minute its use is noted."""
    row = await repository.by_key(database, digest(key))
    if row is None:
        return None
    if row["stale"]:
        async with database.transaction(row["account_id"]) as session:
            await repository.use_key(session, row["key_id"])
    return Caller(row["account_id"], row["user_id"], row["role"], "key", row["key_id"], frozenset(row["scopes"]))


async def create_key(
    session: Session, user_id: UUID, new: NewApiKey, *, key: str | None = None, sealer: Sealer | None = None
) -> CreatedApiKey:
    """A key that speaks for this person, shown this once. With an Idempotency-Key and the sealer asking twice makes one.

    Raises `InvalidRequest` for an end that has passed, `KeyUsedTwice`.
    """
    if new.expires_at is not None and new.expires_at <= now():
        raise InvalidRequest("`expires_at` has passed already.")
    key_id, is_new = await claim(session, key, digest(f"key {user_id} {new.model_dump_json()}"))
    secret = KEY_PREFIX + (secrets.token_urlsafe(32) if key is None or sealer is None else repeatable(sealer, "key", key_id))
    if is_new:
        prefix, scopes = secret[: len(KEY_PREFIX) + 6], sorted({"read", *new.scopes}, key=SCOPES.index)
        row: Row | None = await repository.add_key(session, key_id, user_id, new.name, prefix, digest(secret), scopes, new.expires_at)
        await audit(session, user_id, "key.created", str(key_id), {"name": new.name, "scopes": scopes})
    else:
        row = await repository.key(session, key_id)
    if row is None:
        raise NotFound()
    return CreatedApiKey(**_key(row).model_dump(), key=secret)


async def list_keys(session: Session, caller: Caller, cursor: str | None, limit: int) -> Page[ApiKey]:
    """The caller's keys, newest first; an owner sees everybody's."""
    before = decode_moment(cursor)
    rows = await repository.keys(session, _whose(caller), before, limit + 1)
    more = (
        encode_cursor(rows[limit - 1]["created_at"], rows[limit - 1]["key_id"]) if len(rows) > limit else None
    )
    return Page(items=[_key(row) for row in rows[:limit]], next_cursor=more)


async def revoke_key(session: Session, caller: Caller, key_id: UUID) -> None:
    """Make a key worthless at once. A key may always end itself; others, only with the scope to manage."""
    if caller.via == "key" and key_id != caller.credential_id:
        caller.require("manage")
    name = await repository.revoke_key(session, key_id, _whose(caller))
    if name is None:
        raise NotFound()
    await audit(session, caller.user_id, "key.revoked", str(key_id), {"name": name})


async def local_key(database: Database, path: Path) -> str:
    """The key of the command line on this machine, which speaks for the oldest owner.

    It lies in the 0600 file `path` and is made anew when it is missing or not valid any more. Raises `NoOwner`.
    """
    if path.exists():
        kept = path.read_text().strip()
        if await repository.by_key(database, digest(kept)) is not None:
            return kept
    owner = await repository.first_owner(database)
    if owner is None:
        raise NoOwner()
    async with database.transaction(owner["account_id"]) as session:
        made = await create_key(session, owner["user_id"], NewApiKey(name="Command line on this machine"))
    write_private(path, made.key)
    return made.key


def _whose(caller: Caller) -> UUID | None:
    return None if caller.role == "owner" else caller.user_id


def _key(row: Row) -> ApiKey:
    return ApiKey(
        key_id=row["key_id"],
        name=row["name"],
        prefix=row["prefix"],
        scopes=row["scopes"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        expires_at=row["expires_at"],
    )


# Sessions ---------------------------------------------------------------------------------------------------------------


async def sessions(session: Session, caller: Caller) -> list[SessionView]:
    """Where the caller is signed in, last used first."""
    rows = await repository.sessions(session, caller.user_id)
    return [SessionView(**dict(row), current=row["session_id"] == caller.credential_id) for row in rows]


async def end_session(session: Session, caller: Caller, session_id: UUID) -> None:
    """Sign out one of the caller's browsers. Raises `NotFound`."""
    if not await repository.end_sessions(session, caller.user_id, only=session_id):
        raise NotFound()
    await audit(session, caller.user_id, "session.ended", str(session_id))


async def end_other_sessions(session: Session, caller: Caller) -> EndedSessions:
    """Sign out everywhere but here."""
    ended = await repository.end_sessions(session, caller.user_id, but=caller.credential_id)
    await audit(session, caller.user_id, "sessions.ended", detail={"ended": ended})
    return EndedSessions(ended=ended)


# Shared -----------------------------------------------------------------------------------------------------------------


async def audit(
    session: Session, user_id: UUID | None, act: str, object: str = "", detail: dict[str, Any] | None = None
) -> None:
    """Write down an act that matters for security."""
    await repository.audit(session, uuid7(), user_id, act, object, detail or {})


async def audit_log(session: Session, act: str | None, cursor: str | None, limit: int) -> Page[AuditEntry]:
    """What was written down, newest first; `act` is one act, or a family of them when it ends with a dot."""
    rows = await repository.audit_log(session, act, decode_moment(cursor), limit + 1)
    items = [AuditEntry(**dict(row)) for row in rows[:limit]]
    more = encode_cursor(items[-1].created_at, items[-1].entry_id) if len(rows) > limit else None
    return Page(items=items, next_cursor=more)


def repeatable(sealer: Sealer, what: str, object_id: UUID) -> str:
    """The 256-bit secret of what is made under an Idempotency-Key: stored nowhere, and the same when it is asked for twice."""
    return base64.urlsafe_b64encode(sealer.derive(f"{what} {object_id}")).decode().rstrip("=")


async def claim(session: Session, key: str | None, request: bytes) -> tuple[UUID, bool]:
    """The id for what a request makes, and whether it has to be made: under an Idempotency-Key that is known it was made before.

    `request` is a hash of what is asked for. Raises `KeyUsedTwice` when the key was used for something else.
    """
    fresh = uuid7()
    if key is None:
        return fresh, True
    row = await repository.claim(session, key, request, fresh)
    if row["request"] != request:
        raise KeyUsedTwice()
    return row["object_id"], row["object_id"] == fresh


def decode_moment(cursor: str | None) -> tuple[datetime, UUID] | None:
    """A cursor of (time, id), as lists that are newest first have it."""
    if cursor is None:
        return None
    try:
        at, id = decode_cursor(cursor, 2)
        return datetime.fromisoformat(at), UUID(id)
    except (ValueError, TypeError, AttributeError):
        raise InvalidRequest("The cursor is not one of ours; start again without it.") from None


def network_of(address: str) -> str:
    """What one client can choose from freely is one: an IPv6 address counts as its /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address


def digest(secret: str) -> bytes:
    """What is kept of a secret of 256 random bits."""
    return hashlib.sha256(secret.encode()).digest()
