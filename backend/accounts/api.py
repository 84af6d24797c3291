"""/api/auth, /api/accounts and /api/config."""

import tempfile
from collections.abc import Iterator
from typing import IO, Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from backend import __version__
from backend.accounts import export, members, service, tenants
from backend.accounts.auth import SESSION_COOKIE, Manager, Reader, Transaction, Visitor, set_session_cookie
from backend.accounts.schemas import (
    Acceptance,
    Account,
    AccountDeletion,
    AccountName,
    ApiKey,
    AuditEntry,
    Config,
    CreatedApiKey,
    CreatedInvitation,
    DeletedAccount,
    EndedSessions,
    Feature,
    Invitation,
    InvitationPreview,
    InvitationToken,
    Login,
    Me,
    Member,
    NewApiKey,
    NewInvitation,
    ProfileUpdate,
    RoleChange,
    SessionView,
    Setup,
    SignUp,
    Transfer,
)
from backend.accounts.supabase.service import Supabase
from backend.kit.http import OnGround, refusals
from backend.kit.pages import Page

Limit = Annotated[int, Query(ge=1, le=100)]
IdempotencyKey = Annotated[str | None, Header(alias="idempotency-key", min_length=1, max_length=200)]

open_router = APIRouter(prefix="/api", tags=["accounts"])
router = APIRouter(prefix="/api", tags=["accounts"], responses=refusals(401))


@open_router.get("/config")
async def read_config(request: Request, on: OnGround) -> Config:
    """What a page needs to know before anyone has signed in."""
    features: dict[str, Feature] = await request.app.state.features()
    required = await service.setup_required(on.database)
    supabase: Supabase | None = request.app.state.supabase
    return Config(
        version=__version__,
        setup_required=required,
        auth_mode="local" if supabase is None else "supabase",
        auth_providers=[] if supabase is None else await supabase.offered(),
        features=features,
    )


@open_router.post("/auth/setup", status_code=201, responses=refusals(403, 409, 429))
async def setup_owner(new: Setup, request: Request, response: Response, on: OnGround) -> Me:
    """Create the owner with the one-time token that the first start printed."""
    token, me = await service.set_up(on.database, on.redis, new, _address(request), _user_agent(request))
    set_session_cookie(response, on, token)
    return me


@open_router.post("/auth/login", responses=refusals(401, 403, 429, 502))
async def log_in(login: Login, request: Request, response: Response, on: OnGround) -> Me:
    """Sign in with an address and its password, here or (where SUPABASE_URL is set) at Supabase."""
    address, agent = _address(request), _user_agent(request)
    supabase: Supabase | None = request.app.state.supabase
    if supabase is not None:
        token, me = await supabase.log_in(login, address, agent)
    else:
        token, me = await service.log_in(on.database, on.redis, login, address, agent)
    set_session_cookie(response, on, token)
    return me


@open_router.post("/auth/sign-up", status_code=201, responses=refusals(400, 403, 409, 429))
async def sign_up(new: SignUp, request: Request, response: Response, on: OnGround) -> Me:
    """Become a person here, where VIBE_SIGN_UP lets one."""
    if request.app.state.supabase is not None:
        raise members.SignUpClosed("People sign up at Supabase here.")
    token, me = await members.sign_up(
        on.database, on.redis, on.settings.vibe_sign_up, new, _address(request), _user_agent(request)
    )
    set_session_cookie(response, on, token)
    return me


@open_router.post("/auth/invitations/read", responses=refusals(403, 429))
async def read_invitation(given: InvitationToken, request: Request, on: OnGround) -> InvitationPreview:
    """What an invitation is for, for whoever holds its link."""
    return await members.preview(on.database, on.redis, given.token, _address(request))


@open_router.post("/auth/invitations/accept", responses=refusals(400, 401, 403, 409, 429))
async def accept_invitation(
    given: Acceptance, who: Visitor, request: Request, response: Response, on: OnGround
) -> Me:
    """Use an invitation: a new person chooses a name and a password, one who is signed in joins and works there from now on."""
    address, agent = _address(request), _user_agent(request)
    token, me = await members.accept(on.database, on.redis, who, given, address, agent)
    if token is not None:
        set_session_cookie(response, on, token)
    return me


@router.post("/auth/logout", status_code=204)
async def log_out(who: Reader, session: Transaction, response: Response) -> None:
    """Sign out."""
    await service.log_out(session, who)
    response.delete_cookie(SESSION_COOKIE, path="/")


@router.get("/auth/me")
async def read_me(who: Reader, session: Transaction) -> Me:
    """Who is asking."""
    return await service.me(session, who.user_id)


@router.patch("/auth/me", responses=refusals(403, 429))
async def update_me(update: ProfileUpdate, who: Reader, on: OnGround) -> Me:
    """Change one's name or password. A new password ends one's other sessions."""
    who.in_person()
    return await service.update_me(on.database, on.redis, who, update)


@router.get("/auth/sessions")
async def list_sessions(who: Reader, session: Transaction) -> list[SessionView]:
    """Where one is signed in, last used first."""
    return await service.sessions(session, who)


@router.delete("/auth/sessions", responses=refusals(403))
async def end_other_sessions(who: Reader, session: Transaction) -> EndedSessions:
    """Sign out everywhere but here."""
    who.in_person()
    return await service.end_other_sessions(session, who)


@router.delete("/auth/sessions/{session_id}", status_code=204, responses=refusals(403, 404))
async def end_session(session_id: UUID, who: Reader, session: Transaction) -> None:
    """Sign out one browser."""
    who.in_person()
    await service.end_session(session, who, session_id)


# Keys and the audit log -------------------------------------------------------------------------------------------------


@router.get("/accounts/api-keys")
async def list_api_keys(
    who: Reader, session: Transaction, cursor: str | None = None, limit: Limit = 50
) -> Page[ApiKey]:
    """Keys for programs, newest first."""
    return await service.list_keys(session, who, cursor, limit)


@router.post("/accounts/api-keys", status_code=201, responses=refusals(400, 403, 409))
async def create_api_key(
    new: NewApiKey, who: Reader, session: Transaction, on: OnGround, idempotency_key: IdempotencyKey = None
) -> CreatedApiKey:
    """Create a key. It is shown this once. A key cannot make keys."""
    who.in_person()
    return await service.create_key(session, who.user_id, new, key=idempotency_key, sealer=on.sealer)


@router.delete("/accounts/api-keys/{key_id}", status_code=204, responses=refusals(403, 404))
async def revoke_api_key(key_id: UUID, who: Reader, session: Transaction) -> None:
    """Make a key worthless at once."""
    await service.revoke_key(session, who, key_id)


@router.get("/accounts/audit", responses=refusals(400, 403))
async def list_audit_log(
    who: Manager,
    session: Transaction,
    act: Annotated[str | None, Query(max_length=100, description="One act, or with a dot at its end a family: `key.`")] = None,
    cursor: str | None = None,
    limit: Limit = 50,
) -> Page[AuditEntry]:
    """Who did what that matters for security, newest first."""
    return await service.audit_log(session, act, cursor, limit)


# Members ----------------------------------------------------------------------------------------------------------------


@router.get("/accounts/members")
async def list_members(who: Reader, session: Transaction) -> list[Member]:
    """Everybody in the account, longest first."""
    return await members.members(session)


@router.patch("/accounts/members/{user_id}", responses=refusals(403, 404, 409))
async def set_member_role(user_id: UUID, change: RoleChange, who: Manager, session: Transaction) -> Member:
    """Give a member another role. The last owner stays one."""
    return await members.set_role(session, who, user_id, change.role)


@router.delete("/accounts/members/{user_id}", status_code=204, responses=refusals(400, 403, 404, 409))
async def remove_member(user_id: UUID, who: Manager, session: Transaction) -> None:
    """Take a member out; his keys for the account are worthless at once. Whoever has no other account is forgotten."""
    await members.remove(session, who, user_id)


@router.post("/accounts/leave", status_code=204, responses=refusals(403, 409))
async def leave_account(who: Reader, session: Transaction, response: Response) -> None:
    """Go from the account. Whoever has no other account is forgotten and signed out."""
    who.in_person()
    if not await members.leave(session, who):
        response.delete_cookie(SESSION_COOKIE, path="/")


@router.post("/accounts/transfer", responses=refusals(400, 403, 404, 409, 429))
async def transfer_account(wish: Transfer, who: Manager, on: OnGround) -> list[Member]:
    """Make a member the owner, and oneself an editor. Wants one's password."""
    who.in_person()
    return await members.transfer(on.database, on.redis, who, wish)


@router.get("/accounts/invitations", responses=refusals(400, 403))
async def list_invitations(
    who: Manager, session: Transaction, cursor: str | None = None, limit: Limit = 50
) -> Page[Invitation]:
    """Invitations that were not used yet, newest first."""
    return await members.invitations(session, cursor, limit)


@router.post("/accounts/invitations", status_code=201, responses=refusals(403, 404, 409))
async def create_invitation(
    new: NewInvitation, who: Manager, session: Transaction, request: Request, on: OnGround, idempotency_key: IdempotencyKey = None
) -> CreatedInvitation:
    """Ask somebody in. The link is shown this once, works once, and for seven days."""
    address = on.settings.vibe_public_url or str(request.base_url).rstrip("/")
    return await members.invite(session, on.sealer, who, new, address, key=idempotency_key)


@router.delete("/accounts/invitations/{invitation_id}", status_code=204, responses=refusals(403, 404))
async def delete_invitation(invitation_id: UUID, who: Manager, session: Transaction) -> None:
    """Take an invitation back."""
    await members.take_back(session, who, invitation_id)


# Accounts ---------------------------------------------------------------------------------------------------------------


@router.get("/accounts")
async def list_accounts(who: Reader, session: Transaction) -> list[Account]:
    """One's accounts with one's role in each, oldest first; a key knows its own alone."""
    return await tenants.mine(session, who)


@router.post("/accounts", status_code=201, responses=refusals(403, 404, 409))
async def create_account(
    new: AccountName, who: Reader, on: OnGround, idempotency_key: IdempotencyKey = None
) -> Account:
    """Open one more account, which one owns. Switch to it to work there."""
    return await tenants.create(on.database, who, new, key=idempotency_key)


class _Zip(StreamingResponse):
    media_type = "application/zip"


@router.get(
    "/accounts/export",
    response_class=_Zip,
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}, **refusals(403, 429)},
)
async def export_account(who: Manager, request: Request, on: OnGround) -> _Zip:
    """All of the account as a ZIP: every table as JSON, agents as YAML, threads as JSON; secrets are left out."""
    parts: tuple[export.Part, ...] = request.app.state.export_parts
    file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives until it is sent)
    try:
        await export.write(on.database, on.redis, who, parts, file)
    except BaseException:
        file.close()
        raise
    size = file.tell()
    file.seek(0)
    headers = {"Content-Disposition": 'attachment; filename="vibe-export.zip"', "Content-Length": str(size)}
    return _Zip(_pieces(file), headers=headers)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(262_144):
            yield piece


@router.post("/accounts/{account_id}/switch", responses=refusals(403, 404))
async def switch_account(account_id: UUID, who: Reader, on: OnGround) -> Me:
    """Work in another of one's accounts from now on. Keys stay bound to theirs."""
    return await tenants.switch(on.database, who, account_id)


@router.patch("/accounts/{account_id}", responses=refusals(403, 404))
async def update_account(account_id: UUID, new: AccountName, who: Manager, session: Transaction) -> Account:
    """Call the account something else."""
    return await tenants.rename(session, who, account_id, new)


@router.delete("/accounts/{account_id}", responses=refusals(400, 403, 404, 429))
async def delete_account(
    account_id: UUID, sure: AccountDeletion, who: Manager, response: Response, on: OnGround
) -> DeletedAccount:
    """Delete the account one works in with everything in it. The answer proves that no row of it is left."""
    gone = await tenants.delete(on.database, on.redis, who, account_id, sure)
    if gone.signed_out:
        response.delete_cookie(SESSION_COOKIE, path="/")
    return gone


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _user_agent(request: Request) -> str:
    return request.headers.get("user-agent", "")
