"""The doors: what a request carries becomes a `Caller`: an API key, an access token (ours or Supabase's), or a browser's session."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Protocol
from uuid import UUID

from fastapi import Depends, Request, Response

from backend.accounts import service
from backend.accounts.service import Caller, Right
from backend.kit.db import Session
from backend.kit.http import RATE_LIMIT, Ground, OnGround
from backend.kit.problems import InvalidRequest, TooManyRequests, Unauthorized

SESSION_COOKIE = "vibe_session"
ACCOUNT_SHARE = 10  # an account's limit is so many times that of one key or session
ACCOUNT_HEADER = "X-Account-Id"
# The server's word on when a session ends is what counts; the browser keeps the cookie as long as browsers do.
_COOKIE_SECONDS = 400 * 86_400

# A door returns the caller, or None when what the request carries is not for it; it raises when it is, but is not valid.
Door = Callable[[Ground, Request], Awaitable[Caller | None]]


async def _key_door(on: Ground, request: Request) -> Caller | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.startswith(service.KEY_PREFIX):
        return None
    caller = await service.by_key(on.database, token.strip())
    if caller is None:
        raise Unauthorized(
            "The API key is not valid, or was revoked.", headers={"WWW-Authenticate": "Bearer"}
        )
    return caller


class TokenChecker(Protocol):
    """Whoever knows whose an access token is: this product, or Supabase."""

    async def caller(self, token: str, account_id: UUID | None) -> Caller:
        """Who asks, in his own account or in the one that is named; raises `Unauthorized`, or `Forbidden` for a stranger's account."""


async def token_door(on: Ground, request: Request) -> Caller | None:
    """Who asks with an access token, in the account that `X-Account-Id` names, or else in his own."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or token.count(".") != 2:
        return None
    named = request.headers.get(ACCOUNT_HEADER)
    try:
        account_id = UUID(named) if named else None
    except ValueError:
        raise InvalidRequest(f"{ACCOUNT_HEADER} is not an account's id.") from None
    checker: TokenChecker = request.app.state.token_checker
    return await checker.caller(token.strip(), account_id)


class SessionKeeper(Protocol):
    """Whoever stands behind a browser's session, and may end it."""

    async def keep_alive(self, token: str, caller: Caller) -> None:
        """Return while the session lasts; raises `Unauthorized` when it is over."""


async def _session_door(on: Ground, request: Request) -> Caller | None:
    # A header that came too is not overruled by the cookie: whoever sends it skipped the check of the site.
    token = request.cookies.get(SESSION_COOKIE)
    if not token or "authorization" in request.headers:
        return None
    found = await service.by_session(on.database, token)
    keeper: SessionKeeper | None = request.app.state.supabase
    if found is not None and keeper is not None:
        await keeper.keep_alive(token, found)
    return found


def set_session_cookie(response: Response, on: Ground, token: str) -> None:
    """Let the browser keep its session."""
    secure = (on.settings.vibe_public_url or "").startswith("https://")
    response.set_cookie(
        SESSION_COOKIE, token, max_age=_COOKIE_SECONDS, path="/", secure=secure, httponly=True, samesite="lax"
    )


DOORS: tuple[Door, ...] = (_key_door, token_door, _session_door)


async def visitor(request: Request, on: OnGround) -> Caller | None:
    """Who is asking, or None where strangers may ask too."""
    for door in DOORS:
        found = await door(on, request)
        if found is not None:
            _count(on, request, found)
            return found
    return None


def _count(on: Ground, request: Request, found: Caller) -> None:
    """Count the request for its key or session, and for its account; raise `TooManyRequests` beyond the limit of either."""
    limit = on.settings.vibe_rate_limit_per_minute
    if not limit:
        return
    own = on.meter.use(f"credential:{found.credential_id}", limit)
    whole = on.meter.use(f"account:{found.account_id}", limit * ACCOUNT_SHARE)
    tighter = min(own, whole, key=lambda standing: standing.remaining)
    request.scope[RATE_LIMIT] = replace(tighter, remaining=max(tighter.remaining, 0)).headers()
    if tighter.remaining < 0:
        raise TooManyRequests(
            f"{tighter.limit} requests a minute are allowed here.", headers={"Retry-After": str(tighter.reset)}
        )


async def caller(request: Request, on: OnGround) -> Caller:
    """Who is asking; `Unauthorized` when nobody known."""
    found = await visitor(request, on)
    if found is None:
        raise Unauthorized(headers={"WWW-Authenticate": "Bearer"})
    return found


def _with(right: Right) -> Callable[[Caller], Awaitable[Caller]]:
    # Not a plain function: the framework would run that in a thread.
    async def check(who: Annotated[Caller, Depends(caller)]) -> Caller:
        who.require(right)
        return who

    return check


Visitor = Annotated[Caller | None, Depends(visitor)]
Reader = Annotated[Caller, Depends(caller)]
Editor = Annotated[Caller, Depends(_with("edit"))]
Decider = Annotated[Caller, Depends(_with("decide"))]
Manager = Annotated[Caller, Depends(_with("manage"))]


async def transaction(who: Reader, on: OnGround) -> AsyncIterator[Session]:
    """The request's one transaction in the caller's account: committed before the answer leaves, rolled back on a problem."""
    async with on.database.transaction(who.account_id) as session:
        yield session


Transaction = Annotated[Session, Depends(transaction, scope="function")]
