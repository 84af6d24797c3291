"""Errors as RFC 9457 problems: a class whose docstring is its title, translated once at the edge."""

import re
from collections.abc import Mapping
from typing import Any

import orjson


class Problem(Exception):
    """Something went wrong"""

    status = 500

    def __init__(self, detail: str = "", *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail or self.title())
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    @classmethod
    def title(cls) -> str:
        """First line of the docstring: what people read."""
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip(".")

    @classmethod
    def slug(cls) -> str:
        """`NotFound` as `not-found`: the stable part of the problem's `type`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def body(self, request_id: str | None = None) -> dict[str, Any]:
        """The problem+json object (RFC 9457 §3.1) with our extension members."""
        body: dict[str, Any] = {"type": f"urn:vibe:problem:{self.slug()}", "title": self.title(), "status": self.status}
        if self.detail:
            body["detail"] = self.detail
        if request_id:
            body["request_id"] = request_id
        return body | self.members

    def encoded(self, request_id: str | None = None) -> bytes:
        """`body` as bytes."""
        return orjson.dumps(self.body(request_id), default=str)


class InvalidRequest(Problem):
    """The request cannot be understood"""

    status = 400


class Unauthorized(Problem):
    """Sign in first"""

    status = 401


class PaymentRequired(Problem):
    """Payment is required"""

    status = 402


class Forbidden(Problem):
    """Not allowed"""

    status = 403


class NotFound(Problem):
    """Not found"""

    status = 404


class Conflict(Problem):
    """That conflicts with the present state"""

    status = 409


class Gone(Problem):
    """That is no longer there"""

    status = 410


class StaleVersion(Problem):
    """Somebody changed it in the meantime"""

    status = 412


class TooLarge(Problem):
    """Too large"""

    status = 413


class InvalidPayload(Problem):
    """Some of the fields are not valid"""

    status = 422


class TooManyRequests(Problem):
    """Too many requests"""

    status = 429


class UpstreamFailed(Problem):
    """An outside service failed"""

    status = 502


class NotConfigured(Problem):
    """A setting is missing"""

    status = 503


class Unavailable(Problem):
    """A part of the product is not available right now"""

    status = 503


class UpstreamTimeout(Problem):
    """An outside service did not answer in time"""

    status = 504


class DiskFull(Problem):
    """The disk is nearly full, so no new work is accepted"""

    status = 507
