"""Tokens of ours: access tokens (ES256 JWTs, an hour long, with the claims that Supabase's clients read) and refresh tokens.

The signing key is made once and lies sealed in the database, so every process signs and checks with the same one. Refresh tokens are a chain:
each follows from the one before by a keyed hash, so that the same answer can be given twice although only hashes are stored.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from backend.accounts import repository
from backend.accounts.service import Caller
from backend.kit.clock import now
from backend.kit.db import Database
from backend.kit.problems import Forbidden, Unauthorized
from backend.kit.seal import Sealer

ACCESS_SECONDS = 3600
AUDIENCE = "authenticated"
_LEEWAY_SECONDS = 5  # what clocks of several hosts differ by
_MAX_LENGTH = 8192
_PURPOSE = "token signing"
_FACT = "token_key"
_CHALLENGE = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


class InvalidToken(Unauthorized):
    """The access token is not valid, or is over"""


class EndedSession(Unauthorized):
    """The session of this access token has ended"""


class NoMember(Forbidden):
    """You are no member of the account that X-Account-Id names"""


@dataclass(frozen=True, slots=True)
class Access:
    """What an access token says: whose it is, and which session it belongs to."""

    user_id: UUID
    session_id: UUID


@dataclass(frozen=True)
class _Key:
    kid: str
    private: ec.EllipticCurvePrivateKey
    public: ec.EllipticCurvePublicKey



class Tokens:
    """Makes and checks tokens. `public_url` is the product's address, which becomes the issuer's."""

    def __init__(self, database: Database, sealer: Sealer, public_url: str | None) -> None:
        self.issuer = f"{public_url or 'vibe:'}/auth/v1"
        self._database, self._sealer = database, sealer
        self._chain = sealer.derive("refresh tokens")
        self._key: _Key | None = None

    async def sign(self, user_id: UUID, session_id: UUID, claims: dict[str, Any]) -> tuple[str, int]:
        """An access token that also says `claims`, and when it is over (seconds since 1970)."""
        key, issued = await self._signing_key(), int(now().timestamp())
        said = claims | {
            "iss": self.issuer,
            "sub": str(user_id),
            "aud": AUDIENCE,
            "role": AUDIENCE,
            "session_id": str(session_id),
            "iat": issued,
            "exp": issued + ACCESS_SECONDS,
        }
        return jwt.encode(said, key.private, "ES256", {"kid": key.kid}), issued + ACCESS_SECONDS

    async def caller(self, token: str, account_id: UUID | None) -> Caller:
        """Who asks with this token, in the session's account or in another one of his. The session is looked up each time, so a token is
        worth nothing from the moment it has ended. Raises `InvalidToken`, `EndedSession`, `NoMember`."""
        access = await self.check(token)
        row = await repository.token_session(self._database, access.session_id, access.user_id, account_id)
        if row is None:
            raise EndedSession(headers=_CHALLENGE)
        if row["role"] is None:
            raise NoMember()
        return Caller(row["account_id"], access.user_id, row["role"], "session", access.session_id)

    async def check(self, token: str) -> Access:
        """What a token of ours says. Raises `InvalidToken`; whether its session lasts is the database's to say."""
        key = await self._signing_key()
        try:
            if len(token) > _MAX_LENGTH or jwt.get_unverified_header(token).get("kid") != key.kid:
                raise InvalidToken(headers=_CHALLENGE)
            claims = jwt.decode(
                token,
                key.public,
                algorithms=["ES256"],
                audience=AUDIENCE,
                issuer=self.issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub", "session_id"], "strict_aud": True},
            )
            return Access(UUID(claims["sub"]), UUID(str(claims["session_id"])))
        except (jwt.InvalidTokenError, ValueError) as error:
            raise InvalidToken(headers=_CHALLENGE) from error

    async def public_keys(self) -> dict[str, Any]:
        """The JSON Web Key Set that others check our tokens with."""
        key = await self._signing_key()
        numbers = key.public.public_numbers()
        point = {"x": _base64(numbers.x.to_bytes(32)), "y": _base64(numbers.y.to_bytes(32))}
        named = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "key_ops": ["verify"], "kid": key.kid}
        return {"keys": [named | point]}

    def next_refresh(self, token: str, steps: int = 1) -> str:
        """The refresh token that stands `steps` after this one in its chain."""
        for _ in range(steps):
            token = _base64(hmac.digest(self._chain, token.encode(), "sha256"))
        return token

    async def _signing_key(self) -> _Key:
        if self._key is None:
            fresh = ec.generate_private_key(ec.SECP256R1())
            pem = fresh.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            sealed = self._sealer.seal(_PURPOSE, _FACT, pem.decode())
            kept = await repository.keep_fact(self._database, _FACT, {"sealed": base64.b64encode(sealed).decode()})
            pem = self._sealer.open(_PURPOSE, _FACT, base64.b64decode(kept["sealed"])).encode()
            private = serialization.load_pem_private_key(pem, None)
            assert isinstance(private, ec.EllipticCurvePrivateKey)
            public = private.public_key()
            point = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
            self._key = _Key(hashlib.sha256(point).hexdigest()[:32], private, public)
        return self._key


def new_secret() -> str:
    """256 random bits as text: the first refresh token of a chain, or a token to recover with."""
    return secrets.token_urlsafe(32)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
