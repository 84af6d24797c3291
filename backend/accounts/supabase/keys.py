"""Checks Supabase's access tokens: with the project's published keys, or with its legacy secret."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt

from backend.accounts.tokens import InvalidToken
from backend.kit.problems import Problem

_LEEWAY_SECONDS = 10
_FRESH_SECONDS = 600.0
_AGAIN_SECONDS = 30.0  # an unknown key is looked for this often at most, whoever invents names of keys
_RETRY_SECONDS = 2.0  # while there is no key at all
_MAX_KEYS = 16
_MAX_LENGTH = 8192
_ASYMMETRIC = frozenset({"ES256", "RS256", "EdDSA"})


@dataclass(frozen=True, slots=True)
class SupabaseAccess:
    """What an access token of Supabase's says: who, and in which of his sessions."""

    subject: UUID
    session_id: UUID


class SupabaseKeys:
    """The project's keys, kept for ten minutes; while Supabase is away, those that are known stay good."""

    def __init__(self, issuer: str, secret: str | None, fetch: Callable[[], Awaitable[list[dict[str, Any]]]]) -> None:
        self._issuer, self._secret, self._fetch = issuer, secret, fetch
        self._keys: dict[str, jwt.PyJWK] = {}
        self._tried_at = self._fetched_at = -_FRESH_SECONDS
        self._fetching = asyncio.Lock()
        self._failure: Problem | None = None

    async def check(self, token: str) -> SupabaseAccess:
        """What a token says. Raises `InvalidToken`."""
        try:
            if len(token) > _MAX_LENGTH:
                raise InvalidToken()
            key, algorithm = await self._key_for(jwt.get_unverified_header(token))
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience="authenticated",
                issuer=self._issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            if claims.get("role") != "authenticated":
                raise InvalidToken()
            subject = UUID(claims["sub"])
            return SupabaseAccess(subject, UUID(str(claims.get("session_id", subject))))
        except (jwt.PyJWTError, ValueError) as error:
            raise InvalidToken() from error

    async def _key_for(self, header: dict[str, Any]) -> tuple[Any, str]:
        """The key and the one algorithm it is for; a secret never checks what a published key should, nor the other way round."""
        algorithm = header.get("alg")
        if algorithm == "HS256" and self._secret is not None:
            return self._secret, "HS256"
        found = await self._published(str(header.get("kid"))) if algorithm in _ASYMMETRIC else None
        if found is None or found.algorithm_name != algorithm:
            raise InvalidToken()
        return found.key, found.algorithm_name

    async def _published(self, kid: str) -> jwt.PyJWK | None:
        if self._is_old() or kid not in self._keys:
            async with self._fetching:
                wanted = self._is_old() or kid not in self._keys
                pause = _AGAIN_SECONDS if self._keys else _RETRY_SECONDS
                if wanted and time.monotonic() - self._tried_at >= pause:
                    await self._load()
        if not self._keys and self._failure is not None:
            raise self._failure  # nobody can tell: that is no reason to call the token bad
        return self._keys.get(kid)

    def _is_old(self) -> bool:
        return time.monotonic() - self._fetched_at >= _FRESH_SECONDS

    async def _load(self) -> None:
        self._tried_at = time.monotonic()
        try:
            published = await self._fetch()
        except Problem as problem:
            self._failure = problem
            return
        found = {}
        for one in published[:_MAX_KEYS]:
            if one.get("kty") in ("EC", "RSA", "OKP") and one.get("kid"):
                key = jwt.PyJWK(one)
                if key.algorithm_name in _ASYMMETRIC:
                    found[str(one["kid"])] = key
        self._keys, self._fetched_at, self._failure = found, time.monotonic(), None
