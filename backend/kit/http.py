"""The edge of every HTTP process: one pure ASGI middleware, problems as answers, and what routes ask of the ground floor.

The middleware gives each request an id, refuses foreign hosts (DNS rebinding) and foreign sites (CSRF), bounds bodies, counts,
and turns what nobody expected into a 500 that says nothing but its id.
"""

import ipaddress
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit

import asyncpg
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from redis.asyncio import Redis
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from backend.kit import log as kit_log
from backend.kit import problems
from backend.kit.db import Database
from backend.kit.disk import Disk
from backend.kit.ids import uuid7
from backend.kit.limits import Meter
from backend.kit.problems import Problem
from backend.kit.seal import Sealer
from backend.kit.settings import Settings

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Count = Callable[[str, str, int, float], None]

MAX_BODY = 8 * 1024 * 1024
RATE_LIMIT = "vibe.rate_limit"  # in a request's scope: headers that say what is left of its minute
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class WrongHost(Problem):
    """This address is not one of this server's"""

    status = 421


class ForeignSite(problems.Forbidden):
    """Another site may not do this in your name"""


class MethodNotAllowed(Problem):
    """That cannot be done here"""

    status = 405


class UnsupportedMediaType(Problem):
    """Send JSON"""

    status = 415


class InternalError(Problem):
    """Something went wrong on our side"""


class FieldError(BaseModel):
    """What is wrong with one part of what was sent; line and column count from 1."""

    loc: str
    message: str
    line: int | None = None
    column: int | None = None


class ProblemDetails(BaseModel):
    """Why a request was refused or failed (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = ""
    request_id: str | None = None
    setting: str | None = Field(None, description="The setting to look at.")
    errors: list[FieldError] | None = None


# What routes ask of the ground floor ----------------------------------------------------------------------------------


@dataclass
class Ground:
    """What an HTTP process stands on; opened when it starts."""

    settings: Settings
    database: Database
    redis: Redis
    sealer: Sealer
    disk: Disk
    meter: Meter


async def ground(request: Request) -> Ground:
    """The process's ground."""
    found: Ground = request.app.state.ground
    return found


OnGround = Annotated[Ground, Depends(ground)]


async def room_for_work(on: OnGround) -> None:
    """Refuse new work while the disk is nearly full."""
    on.disk.check()


def operation_id(route: APIRoute) -> str:
    """The name of the route's function: what a generated client calls it."""
    return route.name


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route or router that may refuse with these statuses."""
    return {status: {"model": ProblemDetails, "description": _DESCRIPTIONS[status]} for status in statuses}


_DESCRIPTIONS: dict[int, str] = {
    400: "The request cannot be understood",
    401: "Sign in first",
    403: "Not allowed",
    404: "Not found, or not yours",
    409: "In conflict with the present state",
    410: "No longer there",
    412: "Changed in the meantime",
    413: "Too large",
    415: "Not a media type that is understood here",
    422: "Some fields are not valid",
    429: "Too many requests",
    502: "An outside service failed",
    503: "Not configured, or not available right now",
    507: "The disk is nearly full",
}


# Problems as answers --------------------------------------------------------------------------------------------------


def answer(problem: Problem) -> Response:
    """A problem as a response."""
    headers = dict(problem.headers)
    if isinstance(problem, problems.Unavailable):
        headers.setdefault("Retry-After", "2")
    body = problem.encoded(kit_log.request_id.get())
    return Response(body, problem.status, headers, media_type="application/problem+json")


_BY_STATUS: dict[int, type[Problem]] = {
    400: problems.InvalidRequest,
    401: problems.Unauthorized,
    403: problems.Forbidden,
    404: problems.NotFound,
    405: MethodNotAllowed,
    409: problems.Conflict,
    413: problems.TooLarge,
    415: UnsupportedMediaType,
}


async def _on_problem(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    if problem.status >= 500:
        log.warning("answered with a problem", extra={"status": problem.status, "error": str(problem)})
    return answer(problem)


async def _on_http_error(_: Request, error: Exception) -> Response:
    """What the framework itself refuses."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, Problem):  # raised while the body was read
        return answer(error.__cause__)
    kind = _BY_STATUS.get(error.status_code)
    if kind is None:
        return answer(InternalError())
    detail = "" if error.status_code in (404, 405) else str(error.detail)
    return answer(kind(detail, headers=error.headers))


async def _on_invalid(_: Request, error: Exception) -> Response:
    """A payload that does not fit. What was sent is not repeated: it may hold a password."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if all(one["loc"][0] == "path" for one in found):
        return answer(problems.NotFound())
    errors = [{"loc": _place(one["loc"]), "message": _sentence(one)} for one in found[:50]]
    return answer(problems.InvalidPayload(errors[0]["message"] if len(errors) == 1 else "", errors=errors))


async def _on_unstorable(_: Request, error: Exception) -> Response:
    """Text with a character that Postgres cannot hold."""
    return answer(problems.InvalidRequest("A text may not hold the character U+0000."))


def _place(loc: tuple[int | str, ...]) -> str:
    """`body, config, name` as `config.name`."""
    return ".".join(str(part) for part in (loc[1:] if loc[0] in ("body", "query", "header") else loc))


def _sentence(error: dict[str, Any]) -> str:
    return str(error["msg"]).removeprefix("Value error, ")


def install(app: FastAPI) -> None:
    """Make the app answer every failure with a problem, and say so in its OpenAPI document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    for unstorable in (asyncpg.UntranslatableCharacterError, asyncpg.CharacterNotInRepertoireError):
        app.add_exception_handler(unstorable, _on_unstorable)
    write = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            for operations in write()["paths"].values():
                for operation in operations.values():
                    if "requestBody" in operation:
                        operation["responses"] |= {str(status): _refusal(status) for status in (413, 415)}
                    _name_problems(operation["responses"])
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _refusal(status: int) -> dict[str, Any]:
    """What any route with a body may answer, as the framework writes it of a route's own."""
    schema = {"$ref": "#/components/schemas/ProblemDetails"}
    return {"description": _DESCRIPTIONS[status], "content": {"application/json": {"schema": schema}}}


def _name_problems(responses: dict[str, Any]) -> None:
    """A refusal (its schema is named …Details) is problem+json, whatever the route answers with otherwise."""
    for response in responses.values():
        for media_type, content in list(response.get("content", {}).items()):
            if content.get("schema", {}).get("$ref", "").endswith("Details"):
                response["content"] = {"application/problem+json": response["content"].pop(media_type)}


# The middleware -------------------------------------------------------------------------------------------------------


class Hosts:
    """The names this server answers to. An address of a number cannot be rebound; a name that is not ours can."""

    def __init__(self, bound_to: str, public_url: str | None) -> None:
        self._local_only = _is_loopback(bound_to)
        self.public_origin = _origin(public_url) if public_url else None
        self._names = {"localhost", bound_to.lower()}
        if public_url:
            self._names.add(urlsplit(public_url).hostname or "")

    def knows(self, host: str) -> bool:
        """Whether a request's `Host` may be answered."""
        name = _hostname(host)
        if name in self._names or name.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._local_only


def _hostname(host: str) -> str:
    """`[::1]:80` as `::1`, `Example.org:80` as `example.org`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


class Edge:
    """The outermost layer of ours."""

    def __init__(
        self,
        app: App,
        *,
        hosts: Hosts,
        session_cookie: str,
        count: Count,
        max_body: int = MAX_BODY,
        uploads: Mapping[str, int] | None = None,
    ) -> None:
        """`uploads` are paths whose bodies are files, not JSON, each with the bytes it may have."""
        self._app, self._hosts, self._count, self._max_body = app, hosts, count, max_body
        self._uploads = uploads or {}
        self._cookie = re.compile(rf"(?:^|;)\s*{re.escape(session_cookie)}=")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid7().hex
        token = kit_log.request_id.set(request_id)
        began, status = time.perf_counter(), 0

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _stamp(scope["path"], message.get("headers", ()), request_id)
                message["headers"] += scope.get(RATE_LIMIT, ())
            await send(message)

        try:
            self._refuse_strangers(scope["method"], scope["path"], headers)
            await self._app(scope, self._bounded(scope["path"], headers, receive), stamped)
        except Problem as problem:
            await answer(problem)(scope, receive, stamped)
        except Exception:
            log.exception("a request failed", extra={"method": scope["method"], "path": scope["path"]})
            if status:  # half an answer is out: end the connection, so that nobody takes it for a whole one
                raise
            await answer(InternalError(f"It was logged under the request id {request_id}."))(
                scope, receive, stamped
            )
        finally:
            route = scope.get("route")
            self._count(scope["method"], getattr(route, "path", "none"), status, time.perf_counter() - began)
            kit_log.request_id.reset(token)

    def _refuse_strangers(self, method: str, path: str, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._hosts.knows(host):
            raise WrongHost(
                "Open it under the address it was started with. If this name is yours, set VIBE_PUBLIC_URL to it.",
                setting="VIBE_PUBLIC_URL",
            )
        if method in _SAFE_METHODS or "authorization" in headers:
            return
        if self._cookie.search(headers.get("cookie", "")) is None:
            self._refuse_foreign_site(headers, host, must_tell=False)
        else:
            self._refuse_foreign_site(headers, host, must_tell=True)
            has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
            if (
                has_body
                and path not in self._uploads
                and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json"
            ):
                raise UnsupportedMediaType()

    def _refuse_foreign_site(self, headers: Headers, host: str, *, must_tell: bool) -> None:
        """A browser tells where a request comes from; with a cookie, one that does not tell is refused too."""
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is not None:
            allowed = site in ("same-origin", "none")
        elif origin is not None:
            allowed = (
                origin.partition("://")[2].lower() == host.lower()
                or origin.lower() == self._hosts.public_origin
            )
        else:
            allowed = not must_tell
        if not allowed:
            raise ForeignSite(
                "The request did not come from this product's own pages. Programs use an API key instead of a cookie."
            )

    def _bounded(self, path: str, headers: Headers, receive: Receive) -> Receive:
        """`receive`, but with `TooLarge` when more arrives than a body may hold."""
        most = left = self._uploads.get(path, self._max_body)
        told = headers.get("content-length", "")
        if told.isdecimal() and int(told) > most:
            _too_large(most)

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                _too_large(most)
            return message

        return bounded


def _too_large(most: int) -> NoReturn:
    raise problems.TooLarge(f"A request may hold {most // 1024} KiB.")


def _stamp(path: str, headers: Any, request_id: str) -> list[tuple[bytes, bytes]]:
    """The request's id on every answer; what the API says is nobody's to keep."""
    stamped = [*headers, (b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
    if path.startswith(("/api/", "/v1/")) and not any(name == b"cache-control" for name, _ in stamped):
        stamped.append((b"cache-control", b"no-store"))
    return stamped
