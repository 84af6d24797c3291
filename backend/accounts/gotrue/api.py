"""/auth/v1: what Supabase's official clients call, answered in their words."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from backend.accounts.auth import token_door
from backend.accounts.gotrue import service
from backend.accounts.gotrue.mail import Mailer
from backend.accounts.gotrue.schemas import (
    Empty,
    Grant,
    GrantType,
    KeySet,
    Recover,
    Scope,
    SignUp,
    TokenError,
    TokenSession,
    TokenSettings,
    TokenUser,
    UserUpdate,
    Verify,
)
from backend.accounts.gotrue.service import AuthRefused, SessionGone, Who
from backend.accounts.schemas import Login
from backend.accounts.service import Caller, WrongCredentials, WrongPassword
from backend.accounts.tokens import EndedSession, InvalidToken, Tokens
from backend.kit.http import OnGround
from backend.kit.problems import InvalidRequest, Problem, TooManyRequests, Unauthorized


class SignsInElsewhere(AuthRefused):
    """This installation signs in through Supabase"""

    status = 404
    error_code = "provider_disabled"


# How problems of ours are said on this wire: status, code and words.
_WORDS: dict[type[Problem], tuple[int, str, str]] = {
    WrongCredentials: (400, "invalid_credentials", "Invalid login credentials"),
    WrongPassword: (400, "invalid_credentials", "The current password is not right"),
    InvalidToken: (403, "bad_jwt", "invalid JWT: unable to parse or verify signature"),
    EndedSession: (403, SessionGone.error_code, SessionGone.title()),
    Unauthorized: (401, "no_authorization", "This endpoint requires a valid Bearer token"),
    TooManyRequests: (429, "over_request_rate_limit", "Request rate limit reached"),
}


def _refusal(problem: Problem) -> Response:
    if isinstance(problem, AuthRefused):
        status, code, words = problem.status, problem.error_code, problem.detail or problem.title()
    else:
        fallback = "unexpected_failure" if problem.status >= 500 else "validation_failed"
        status, code, words = _WORDS.get(type(problem), (problem.status, fallback, problem.detail or problem.title()))
    body = TokenError(code=status, error_code=code, msg=words, **problem.members)
    return Response(body.model_dump_json(exclude_none=True), status, problem.headers, media_type="application/json")


def _unusable(error: RequestValidationError) -> Response:
    """A payload that does not fit. What was sent is not repeated: it may hold a password."""
    first = error.errors()[0]
    code = "bad_json" if first["type"] == "json_invalid" else "validation_failed"
    place = ".".join(str(part) for part in first["loc"][1:])
    body = TokenError(code=400, error_code=code, msg=f"{place}: {first['msg']}" if place else str(first["msg"]))
    return Response(body.model_dump_json(exclude_none=True), 400, media_type="application/json")


class _Route(APIRoute):
    """Translates what goes wrong, once, into this wire's errors."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                answer = await handle(request)
            except Problem as problem:
                answer = _refusal(problem)
            except RequestValidationError as error:
                answer = _unusable(error)
            except HTTPException as error:  # what the framework itself refuses, such as a body that is no text
                if isinstance(error.__cause__, Problem):
                    raise
                answer = _refusal(InvalidRequest(str(error.detail)))
            answer.headers.setdefault("Cache-Control", "no-store")
            return answer

        return handler


async def _here(on: OnGround) -> None:
    if on.settings.supabase_url is not None:
        raise SignsInElsewhere(f"Use {on.settings.supabase_url}/auth/v1.")


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": TokenError, "description": words}
    for status, words in {
        400: "The request cannot be understood, or the credentials are wrong",
        403: "The token or the session is no good any more",
        404: "Signing in is Supabase's business here",
        422: "Refused by this installation's rules",
        429: "Too many requests",
        503: "Not available right now",
    }.items()
}
_TOKEN_PROBLEM: dict[int | str, dict[str, Any]] = {401: {"model": TokenError, "description": "Send an access token"}}

router = APIRouter(
    prefix="/auth/v1", tags=["auth"], route_class=_Route, dependencies=[Depends(_here)], responses=_PROBLEMS
)


async def _bearer(request: Request, on: OnGround) -> Caller:
    """Who asks, with an access token: a cookie or a key does not do here."""
    found = await token_door(on, request)
    if found is None:
        raise Unauthorized()
    return found


async def _tokens(request: Request) -> Tokens:
    found: Tokens = request.app.state.tokens
    return found


async def _mailer(request: Request) -> Mailer:
    found: Mailer = request.app.state.mailer
    return found


async def _who(request: Request) -> Who:
    return Who(request.client.host if request.client else "", request.headers.get("user-agent", ""))


Bearer = Annotated[Caller, Depends(_bearer)]
With = Annotated[Tokens, Depends(_tokens)]
Mail = Annotated[Mailer, Depends(_mailer)]
From = Annotated[Who, Depends(_who)]


@router.post("/signup")
async def sign_up_for_tokens(new: SignUp, on: OnGround, tokens: With, who: From) -> TokenSession:
    """Become a person here, where that is open to everybody."""
    return await service.sign_up(on.database, on.redis, tokens, on.settings, new, who)


@router.post("/token")
async def grant_tokens(
    grant: Grant, grant_type: Annotated[GrantType, Query()], on: OnGround, tokens: With, who: From
) -> TokenSession:
    """A session for an address and its password, or the next tokens of one. A refresh token is good once; its use again within ten seconds gets
    the same answer, and later ends the session."""
    if grant_type == "refresh_token":
        if grant.refresh_token is None:
            raise AuthRefused("refresh_token required")
        return await service.refresh(on.database, tokens, grant.refresh_token)
    if grant.email is None or grant.password is None:
        raise AuthRefused("email and password required")
    login = Login(email=grant.email, password=grant.password)
    return await service.sign_in(on.database, on.redis, tokens, login, who)


@router.get("/user", responses=_TOKEN_PROBLEM)
async def read_token_user(caller: Bearer, on: OnGround) -> TokenUser:
    """Who the access token speaks for."""
    return await service.read_user(on.database, caller.user_id)


@router.put("/user", responses=_TOKEN_PROBLEM)
async def update_token_user(update: UserUpdate, caller: Bearer, on: OnGround) -> TokenUser:
    """Change one's data or password. A new password ends one's other sessions."""
    return await service.update_user(
        on.database, on.redis, caller.user_id, caller.account_id, caller.credential_id, update
    )


@router.post("/logout", status_code=204, responses=_TOKEN_PROBLEM)
async def end_tokens(caller: Bearer, on: OnGround, scope: Scope = "global") -> None:
    """End this session, all of one's sessions, or all others."""
    await service.sign_out(on.database, caller.user_id, caller.account_id, caller.credential_id, scope)


@router.post("/recover")
async def recover_password(
    lost: Recover, on: OnGround, mailer: Mail, who: From, redirect_to: Annotated[str | None, Query(max_length=2000)] = None
) -> Empty:
    """Mail a way back to whoever has this address. The answer is the same when nobody has."""
    await service.recover(on.database, on.redis, mailer, lost.email, redirect_to, who)
    return Empty()


@router.post("/verify")
async def verify_recovery(given: Verify, on: OnGround, tokens: With, who: From) -> TokenSession:
    """A session for the token of a mail, once."""
    token = given.token_hash or given.token
    if token is None or (given.token_hash is None and given.email is None):
        raise AuthRefused("token_hash, or token and email, required")
    return await service.verify_recovery(on.database, on.redis, tokens, token, given.email, who)


@router.get("/settings")
async def read_token_settings(on: OnGround) -> TokenSettings:
    """What can be done here."""
    return service.settings_view(on.settings)


@router.get("/.well-known/jwks.json")
async def read_token_keys(tokens: With, response: Response) -> KeySet:
    """The keys that access tokens are checked with."""
    response.headers["Cache-Control"] = "public, max-age=600"
    return KeySet(**await tokens.public_keys())
