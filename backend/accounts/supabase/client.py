"""Supabase's auth API, as we call it: always to the configured address, behind the egress guard, with the anonymous key."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiohttp
import orjson
from pydantic import BaseModel, ValidationError
from yarl import URL

from backend.kit.egress import EgressRefused, GuardedConnector
from backend.kit.problems import NotConfigured, Problem, TooManyRequests, UpstreamFailed, UpstreamTimeout
from backend.kit.settings import Settings

_SECONDS = 15.0
_MAX_BYTES = 256 * 1024
View = TypeVar("View", bound=BaseModel)


class SupabaseFailed(UpstreamFailed):
    """Supabase failed"""


class SupabaseSlow(UpstreamTimeout):
    """Supabase did not answer in time"""


class GrantRefused(Problem):
    """Supabase does not accept this sign-in"""

    status = 401


class Identity(BaseModel):
    """One way in which a person signs in at Supabase."""

    provider: str
    identity_data: dict[str, Any] | None = None


class SupabaseUser(BaseModel):
    """A person as Supabase knows him."""

    id: str
    email: str | None = None
    email_confirmed_at: datetime | None = None
    user_metadata: dict[str, Any] = {}
    identities: list[Identity] | None = None


class Grant(BaseModel):
    """A session at Supabase."""

    access_token: str
    refresh_token: str
    expires_in: int
    user: SupabaseUser


class ProjectSettings(BaseModel):
    """What the project offers. With `mailer_autoconfirm` an address counts as confirmed although nobody has proved it."""

    external: dict[str, bool] = {}
    mailer_autoconfirm: bool = False


class _Nothing(BaseModel):
    pass


class _KeySet(BaseModel):
    keys: list[dict[str, Any]]


class SupabaseAuth:
    """The way to one project's auth API. Close it."""

    def __init__(self, settings: Settings) -> None:
        assert settings.supabase_url is not None
        self.base = f"{settings.supabase_url}/auth/v1"
        self._anon_key = settings.supabase_anon_key.get_secret_value() if settings.supabase_anon_key else None
        url = URL(self.base)
        # The operator named this address himself, so it may be a private one.
        named = settings.private_targets | {f"{url.host}:{url.port}"}
        self._session = aiohttp.ClientSession(
            connector=GuardedConnector(named),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def password(self, email: str, password: str) -> Grant:
        """A session for an address and its password. Raises `GrantRefused`."""
        return await self._grant("password", {"email": email, "password": password})

    async def refresh(self, refresh_token: str) -> Grant:
        """The next tokens of a session. Raises `GrantRefused` when it is over."""
        return await self._grant("refresh_token", {"refresh_token": refresh_token})

    async def exchange(self, code: str, verifier: str) -> Grant:
        """A session for the code that came back from a provider or a mail (PKCE). Raises `GrantRefused`."""
        return await self._grant("pkce", {"auth_code": code, "code_verifier": verifier})

    async def mail_link(self, email: str, redirect_to: str, challenge: str, *, create: bool) -> None:
        """Have a link mailed that leads to `redirect_to` with a code. Raises `GrantRefused` when Supabase knows nobody and may make nobody."""
        body = {
            "email": email,
            "create_user": create,
            "code_challenge": challenge,
            "code_challenge_method": "s256",
            "data": {},
        }
        await self._call("POST", f"/otp?{urlencode({'redirect_to': redirect_to})}", _Nothing, body)

    def authorize_url(self, provider: str, redirect_to: str, challenge: str) -> str:
        """Where a browser goes to sign in with a provider."""
        asked = {
            "provider": provider,
            "redirect_to": redirect_to,
            "code_challenge": challenge,
            "code_challenge_method": "s256",
        }
        return f"{self.base}/authorize?{urlencode(asked)}"

    async def user(self, access_token: str) -> SupabaseUser:
        """Whose access token it is, while his session lasts. Raises `GrantRefused`."""
        return await self._call("GET", "/user", SupabaseUser, bearer=access_token)

    async def settings(self) -> ProjectSettings:
        """What the project offers."""
        return await self._call("GET", "/settings", ProjectSettings)

    async def keys(self) -> list[dict[str, Any]]:
        """The keys that the project's access tokens are checked with."""
        return (await self._call("GET", "/.well-known/jwks.json", _KeySet)).keys

    async def _grant(self, kind: str, body: Mapping[str, Any]) -> Grant:
        return await self._call("POST", f"/token?grant_type={kind}", Grant, body)

    async def _call(
        self, method: str, path: str, view: type[View], body: Mapping[str, Any] | None = None, *, bearer: str | None = None
    ) -> View:
        if self._anon_key is None:
            raise NotConfigured("Signing in through Supabase wants its anonymous key.", setting="SUPABASE_ANON_KEY")
        headers = {"apikey": self._anon_key, "Authorization": f"Bearer {bearer or self._anon_key}"}
        data = None
        if body is not None:
            data, headers["Content-Type"] = orjson.dumps(body), "application/json"
        try:
            # A redirect would carry the password to another address.
            async with self._session.request(method, self.base + path, data=data, headers=headers, allow_redirects=False) as answer:
                status, wait = answer.status, answer.headers.get("Retry-After", "")
                text = await _read(answer.content)
        except TimeoutError as error:
            raise SupabaseSlow() from error
        except (aiohttp.ClientError, EgressRefused, OSError) as error:
            raise SupabaseFailed(f"{self.base} cannot be reached: {error}") from error
        if status == 429:
            raise TooManyRequests("Supabase asks to wait.", headers={"Retry-After": wait if wait.isdecimal() else "60"})
        if 400 <= status < 500:
            raise GrantRefused(_words(text))
        try:
            if status != 200:
                raise ValueError(f"status {status}")
            return view.model_validate_json(text)
        except (ValidationError, ValueError) as error:
            raise SupabaseFailed(f"Its answer could not be used ({status}).") from error


async def _read(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) > _MAX_BYTES:
            raise aiohttp.ClientPayloadError("the answer is too large")
    return bytes(body)


def _words(text: bytes) -> str:
    """What Supabase says, for a person to read."""
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        return ""
    for name in ("msg", "message", "error_description"):
        if isinstance(said, dict) and isinstance(said.get(name), str):
            return str(said[name])[:300]
    return ""
