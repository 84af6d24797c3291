"""Signing in from our own pages through Supabase: by a mailed link, or with a provider."""

import re
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Cookie, Depends, Query, Request, Response
from pydantic import BaseModel
from starlette.responses import RedirectResponse

from backend.accounts.auth import set_session_cookie
from backend.accounts.schemas import Email
from backend.accounts.supabase.service import FLOW_SECONDS, Supabase
from backend.kit.http import Ground, OnGround, refusals
from backend.kit.problems import NotConfigured, Problem

_FLOW_COOKIE = "vibe_sign_in"
_FLOW_PATH = "/api/auth"
_OWN_PAGE = re.compile(r"/(?![/\\])[\x21-\x7e]*")

router = APIRouter(prefix="/api/auth", tags=["accounts"])


class MagicLink(BaseModel):
    """Whom to mail a link that signs him in."""

    email: Email


class Sent(BaseModel):
    """A mail is on its way, if somebody has this address."""

    sent: bool = True


async def _supabase(request: Request) -> Supabase:
    found: Supabase | None = request.app.state.supabase
    if found is None:
        raise NotConfigured("People sign in with a password here.", setting="SUPABASE_URL")
    return found


Through = Annotated[Supabase, Depends(_supabase)]


@router.post("/magic-link", status_code=202, responses=refusals(429, 502))
async def mail_magic_link(asked: MagicLink, request: Request, response: Response, on: OnGround, supabase: Through) -> Sent:
    """Have Supabase mail a link that signs this browser in."""
    flow = await supabase.mail_link(asked.email, _callback(request, on), _address(request))
    _keep_flow(response, on, flow.cookie)
    return Sent()


@router.get("/oauth/{provider}", status_code=303, response_class=RedirectResponse, responses=refusals(404, 502))
async def begin_oauth(
    provider: str, request: Request, on: OnGround, supabase: Through, next: Annotated[str, Query(max_length=2000)] = "/"
) -> RedirectResponse:
    """Go to a provider to sign in, and come back to `next`."""
    flow = await supabase.begin(provider, _callback(request, on), _own_page(next))
    answer = RedirectResponse(flow.url, 303)
    _keep_flow(answer, on, flow.cookie)
    return answer


@router.get("/callback", status_code=303, response_class=RedirectResponse, responses=refusals(502))
async def finish_sign_in(
    request: Request,
    on: OnGround,
    supabase: Through,
    code: Annotated[str, Query(max_length=2000)] = "",
    state: Annotated[str, Query(max_length=200)] = "",
    error_description: Annotated[str, Query(max_length=2000)] = "",
    vibe_sign_in: Annotated[str | None, Cookie(max_length=4000)] = None,
) -> RedirectResponse:
    """Where a browser comes back to: signed in on the page it wanted, or on the login page with what went wrong."""
    try:
        if not code:
            raise NotSignedIn(error_description)
        agent = request.headers.get("user-agent", "")
        token, after = await supabase.finish(code, state, vibe_sign_in, _address(request), agent)
    except Problem as problem:
        answer = RedirectResponse(f"/login?problem={quote(problem.detail or problem.title())}", 303)
    else:
        answer = RedirectResponse(after, 303)
        set_session_cookie(answer, on, token)
    answer.delete_cookie(_FLOW_COOKIE, path=_FLOW_PATH)
    return answer


class NotSignedIn(Problem):
    """The provider did not sign you in"""

    status = 401


def _keep_flow(response: Response, on: Ground, value: str) -> None:
    secure = (on.settings.vibe_public_url or "").startswith("https://")
    response.set_cookie(
        _FLOW_COOKIE, value, max_age=FLOW_SECONDS, path=_FLOW_PATH, secure=secure, httponly=True, samesite="lax"
    )


def _callback(request: Request, on: Ground) -> str:
    return f"{on.settings.vibe_public_url or str(request.base_url).rstrip('/')}/api/auth/callback"


def _own_page(path: str) -> str:
    """A page of this product: never another site, however it is written."""
    return path if _OWN_PAGE.fullmatch(path) else "/"


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
