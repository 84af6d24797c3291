"""The people of an account: invited, given roles, removed; and how a new person comes in.

That an account always has an owner is kept by the named functions of migrations/0007_members.sql, under the account's lock.
"""

from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from backend.accounts import repository
from backend.accounts.schemas import (
    Acceptance,
    CreatedInvitation,
    Invitation,
    InvitationPreview,
    Me,
    Member,
    NewInvitation,
    Role,
    SignUp,
    Transfer,
)
from backend.accounts.service import (
    Caller,
    RoleForbids,
    audit,
    check_password,
    claim,
    decode_moment,
    digest,
    me,
    network_of,
    open_session,
    passwords,
    repeatable,
)
from backend.kit import limits
from backend.kit.db import Database, Session
from backend.kit.ids import uuid7
from backend.kit.pages import Page, encode_cursor
from backend.kit.problems import Conflict, Forbidden, InvalidRequest, NotFound
from backend.kit.seal import Sealer
from backend.kit.settings import SignUpMode

INVITATION_DAYS = 7


class LastOwner(Conflict):
    """An account needs an owner: make another member the owner first"""


class AlreadyMember(Conflict):
    """This person is a member already"""


class InvitationOver(Forbidden):
    """This invitation was used, taken back or is over; ask for a new one"""


class SomebodyElsesInvitation(Forbidden):
    """This invitation is for another address; sign in as that person"""


class AddressTaken(Conflict):
    """Somebody has this address already: sign in first"""


class SignUpClosed(Forbidden):
    """New people come here by invitation only"""


# Members ----------------------------------------------------------------------------------------------------------------


async def members(session: Session) -> list[Member]:
    """Everybody in the account, longest first."""
    return [Member(**dict(row)) for row in await repository.members(session)]


async def set_role(session: Session, who: Caller, user_id: UUID, role: Role) -> Member:
    """Give a member another role. Raises `LastOwner`, `NotFound`."""
    _settle(await repository.set_role(session, who.user_id, user_id, role))
    await audit(session, who.user_id, "member.role", str(user_id), {"role": role})
    return next(member for member in await members(session) if member.user_id == user_id)


async def remove(session: Session, who: Caller, user_id: UUID) -> None:
    """Take a member out of the account. Raises `LastOwner`, `NotFound`."""
    if user_id == who.user_id:
        raise InvalidRequest("To go yourself, leave the account.")
    _settle(await repository.remove_member(session, who.user_id, user_id))
    await audit(session, who.user_id, "member.removed", str(user_id))


async def leave(session: Session, who: Caller) -> bool:
    """Go from the account; whether the person has another one. One who has none is forgotten. Raises `LastOwner`."""
    others = len(await repository.accounts_of(session, who.user_id)) > 1
    await audit(session, who.user_id, "member.left", str(who.user_id))
    _settle(await repository.remove_member(session, who.user_id, who.user_id))
    return others


async def transfer(database: Database, redis: Redis, who: Caller, wish: Transfer) -> list[Member]:
    """Make a member the owner and oneself an editor. Raises `WrongPassword`, `NotFound`."""
    if wish.user_id == who.user_id:
        raise InvalidRequest("Name another member.")
    await check_password(database, redis, who, wish.password)
    async with database.transaction(who.account_id) as session:
        _settle(await repository.set_role(session, who.user_id, wish.user_id, "owner"))
        _settle(await repository.set_role(session, who.user_id, who.user_id, "editor"))
        await audit(session, who.user_id, "account.transferred", str(wish.user_id))
        return await members(session)


def _settle(outcome: str) -> None:
    match outcome:
        case "done":
            return
        case "nobody":
            raise NotFound("There is no such member.")
        case "last_owner":
            raise LastOwner()
        case _:
            raise RoleForbids("Only an owner may do this.")


# Invitations ------------------------------------------------------------------------------------------------------------


async def invite(
    session: Session, sealer: Sealer, who: Caller, new: NewInvitation, address: str, *, key: str | None = None
) -> CreatedInvitation:
    """An invitation, whose link (`address` is where the pages are) is shown this once; an unused one for the same address is worthless then.

    With an Idempotency-Key asking twice makes one. Raises `AlreadyMember`.
    """
    id, is_new = await claim(session, key, digest(f"invitation {who.user_id} {new.model_dump_json()}"))
    token = repeatable(sealer, "invitation", id)
    if is_new:
        if await repository.has_member(session, new.email):
            raise AlreadyMember()
        row: Any = await repository.add_invitation(session, id, new.email, new.role, digest(token), who.user_id, INVITATION_DAYS)
        await audit(session, who.user_id, "invitation.created", str(id), {"email": new.email, "role": new.role})
    else:
        row = await repository.invitation(session, id)
    if row is None:
        raise NotFound("This invitation was used or taken back meanwhile.")
    return CreatedInvitation(**dict(row), link=f"{address}/invite?token={token}")


async def invitations(session: Session, cursor: str | None, limit: int) -> Page[Invitation]:
    """Invitations that were not used yet, newest first."""
    rows = await repository.invitations(session, decode_moment(cursor), limit + 1)
    items = [Invitation(**dict(row)) for row in rows[:limit]]
    more = encode_cursor(items[-1].created_at, items[-1].invitation_id) if len(rows) > limit else None
    return Page(items=items, next_cursor=more)


async def take_back(session: Session, who: Caller, invitation_id: UUID) -> None:
    """Make an invitation worthless. Raises `NotFound`."""
    email = await repository.delete_invitation(session, invitation_id)
    if email is None:
        raise NotFound()
    await audit(session, who.user_id, "invitation.deleted", str(invitation_id), {"email": email})


async def preview(database: Database, redis: Redis, token: str, address: str) -> InvitationPreview:
    """What whoever holds the link may know. Raises `InvitationOver`."""
    await _bound(redis, address)
    row = await repository.invitation_by_hash(database, digest(token))
    if row is None:
        raise InvitationOver()
    return InvitationPreview(**dict(row))


async def accept(
    database: Database, redis: Redis, who: Caller | None, given: Acceptance, address: str, user_agent: str
) -> tuple[str | None, Me]:
    """Use an invitation, once: a new person is made and signed in (the token of his session is returned), one who asks joins and his session turns
    to the account. Raises `InvitationOver`, `SomebodyElsesInvitation`, `AddressTaken`, `AlreadyMember`.
    """
    await _bound(redis, address)
    if who is not None:
        return None, await _join(database, who, given.token)
    if await repository.invitation_by_hash(database, digest(given.token)) is None:
        raise InvitationOver()  # before a password is hashed for nothing
    if given.name is None or given.password is None:
        raise InvalidRequest("Sign in first, or choose a name and a password.")
    user_id = uuid7()
    account_id = await _use(database, given.token, user_id, given.name, await passwords.hash(given.password))
    return await _welcome(database, account_id, user_id, "invitation.accepted", address, user_agent)


async def _join(database: Database, who: Caller, token: str) -> Me:
    who.in_person()
    account_id = await _use(database, token, who.user_id, None, None)
    async with database.transaction(account_id) as session:
        await repository.switch_session(session, who.user_id, who.credential_id, account_id)
        await audit(session, who.user_id, "invitation.accepted", str(who.user_id))
        return await me(session, who.user_id)


async def _use(database: Database, token: str, user_id: UUID, name: str | None, password_hash: str | None) -> UUID:
    used = await repository.accept_invitation(database, digest(token), user_id, name, password_hash)
    match used["outcome"]:
        case "done":
            account_id: UUID = used["account_id"]
            return account_id
        case "known":
            raise AddressTaken()
        case "another":
            raise SomebodyElsesInvitation()
        case "member":
            raise AlreadyMember()
        case _:
            raise InvitationOver()


async def _bound(redis: Redis, address: str) -> None:
    await limits.hit(redis, f"invitation:{network_of(address)}", limit=60, seconds=300)


# Signing up -------------------------------------------------------------------------------------------------------------


async def sign_up(
    database: Database, redis: Redis, mode: SignUpMode, new: SignUp, address: str, user_agent: str
) -> tuple[str, Me]:
    """A new person with an account of his own, or, with an invitation, in the account that asks him; his session's token and who he is.

    Raises `SignUpClosed`, `AddressTaken` and what `accept` raises.
    """
    if mode == "closed" or (mode == "invitation" and new.invitation is None):
        raise SignUpClosed("Ask for an invitation, or for VIBE_SIGN_UP=open.")
    await limits.hit(redis, f"sign-up:{network_of(address)}", limit=20, seconds=300)
    if not await repository.has_owner(database):
        raise SignUpClosed("This installation has no owner yet: its setup link makes him first.")
    if new.invitation is not None:
        asked = await preview(database, redis, new.invitation, address)
        if asked.email.lower() != new.email.lower():
            raise SomebodyElsesInvitation()
        given = Acceptance(token=new.invitation, name=new.name, password=new.password)
        token, person = await accept(database, redis, None, given, address, user_agent)
        assert token is not None
        return token, person
    user_id, account_id = uuid7(), uuid7()
    made = await repository.sign_up(database, user_id, account_id, new.email, new.name, await passwords.hash(new.password))
    if not made:
        raise AddressTaken()
    return await _welcome(database, account_id, user_id, "person.signed_up", address, user_agent)


async def _welcome(
    database: Database, account_id: UUID, user_id: UUID, act: str, address: str, user_agent: str
) -> tuple[str, Me]:
    async with database.transaction(account_id) as session:
        await audit(session, user_id, act, str(user_id))
        return await open_session(session, user_id, address, user_agent), await me(session, user_id)
