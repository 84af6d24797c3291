"""/api/auth, /api/accounts and /api/config."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from backend import __version__
from backend.accounts import service
from backend.accounts.auth import SESSION_COOKIE, Reader, Transaction
from backend.accounts.schemas import (
    ApiKey,
    Config,
    CreatedApiKey,
    Feature,
    Login,
    Me,
    NewApiKey,
    ProfileUpdate,
    Setup,
)
from backend.kit.http import Ground, OnGround, refusals
from backend.kit.pages import Page
from backend.kit.problems import Forbidden

# The server's word on when a session ends is what counts; the browser keeps the cookie as long as browsers do.
_COOKIE_SECONDS = 400 * 86_400

open_router = APIRouter(prefix="/api", tags=["accounts"])
router = APIRouter(prefix="/api", tags=["accounts"], responses=refusals(401))


@open_router.get("/config")
async def read_config(request: Request, on: OnGround) -> Config:
    """What a page needs to know before anyone has signed in."""
    features: dict[str, Feature] = await request.app.state.features()
    required = await service.setup_required(on.database)
    return Config(version=__version__, setup_required=required, auth_mode="local", features=features)


@open_router.post("/auth/setup", status_code=201, responses=refusals(403, 409, 429))
async def setup_owner(new: Setup, request: Request, response: Response, on: OnGround) -> Me:
    """Create the owner with the one-time token that the first start printed."""
    token, me = await service.set_up(on.database, on.redis, new, _address(request), _user_agent(request))
    _set_cookie(response, on, token)
    return me


@open_router.post("/auth/login", responses=refusals(401, 429))
async def log_in(login: Login, request: Request, response: Response, on: OnGround) -> Me:
    """Sign in."""
    token, me = await service.log_in(on.database, on.redis, login, _address(request), _user_agent(request))
    _set_cookie(response, on, token)
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
    return await service.update_me(on.database, on.redis, who, update)


@router.get("/accounts/api-keys")
async def list_api_keys(
    who: Reader,
    session: Transaction,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> Page[ApiKey]:
    """Keys for programs, newest first."""
    return await service.list_keys(session, who, cursor, limit)


@router.post("/accounts/api-keys", status_code=201, responses=refusals(403))
async def create_api_key(new: NewApiKey, who: Reader, session: Transaction) -> CreatedApiKey:
    """Create a key. It is shown this once."""
    if who.via != "session":
        raise Forbidden("A key cannot make keys: sign in.")
    return await service.create_key(session, who.user_id, new)


@router.delete("/accounts/api-keys/{key_id}", status_code=204, responses=refusals(404))
async def revoke_api_key(key_id: UUID, who: Reader, session: Transaction) -> None:
    """Make a key worthless at once."""
    await service.revoke_key(session, who, key_id)


def _set_cookie(response: Response, on: Ground, token: str) -> None:
    secure = (on.settings.vibe_public_url or "").startswith("https://")
    response.set_cookie(
        SESSION_COOKIE, token, max_age=_COOKIE_SECONDS, path="/", secure=secure, httponly=True, samesite="lax"
    )


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _user_agent(request: Request) -> str:
    return request.headers.get("user-agent", "")
