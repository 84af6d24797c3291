"""Supabase's auth API, strict about what it is sent: the key, the content type, PKCE with S256, and refresh tokens that are good once."""

import base64
import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from tests.wire.server import WireServer

ANON_KEY = "the anonymous key"
SECRET = "a legacy secret that is long enough for HS256"
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass
class Known:
    """A user of the project."""

    email: str
    password: str = ""
    id: str = field(default_factory=lambda: str(uuid4()))
    confirmed: bool = True
    banned: bool = False
    provider: str = "email"
    email_verified: bool = True
    metadata: dict[str, Any] = field(default_factory=dict)

    def view(self) -> dict[str, Any]:
        """As the API shows him."""
        identity = {"email": self.email, "email_verified": self.email_verified, "sub": self.id}
        return {
            "id": self.id,
            "aud": "authenticated",
            "role": "authenticated",
            "email": self.email,
            "email_confirmed_at": "2026-11-01T10:00:00.123456Z" if self.confirmed else None,
            "phone": "",
            "app_metadata": {"provider": self.provider, "providers": [self.provider]},
            "user_metadata": self.metadata,
            "identities": [{"identity_id": str(uuid4()), "id": self.id, "provider": self.provider, "identity_data": identity}],
            "created_at": "2026-11-01T10:00:00Z",
            "is_anonymous": False,
        }


class SupabaseServer(WireServer):
    """Users are put in `users`; `refreshes` counts refreshes, `key_reads` reads of the key set. `mails` are links that were mailed."""

    def __init__(self, *users: Known) -> None:
        super().__init__()
        self.users = list(users)
        self.providers = {"email": True, "phone": False, "github": True, "google": False}
        self.autoconfirm = False
        self.expires_in = 3600
        self.refreshes = self.key_reads = 0
        self.mails: list[tuple[str, str]] = []
        self.down = False
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.new_key()
        self._refresh: dict[str, Known] = {}
        self._used: set[str] = set()
        self._codes: dict[str, tuple[Known, str]] = {}

    def new_key(self) -> str:
        """Sign with another key from now on."""
        self.kid = secrets.token_hex(8)
        self.keys[self.kid] = ec.generate_private_key(ec.SECP256R1())
        return self.kid

    def token(self, user: Known, *, header: dict[str, Any] | None = None, secret: str | None = None, **claims: Any) -> str:
        """An access token for a user, with other claims than its own where they are given."""
        now = int(time.time())
        said = {
            "iss": f"{self.url}/auth/v1",
            "sub": user.id,
            "aud": "authenticated",
            "role": "authenticated",
            "email": user.email,
            "session_id": str(uuid4()),
            "iat": now,
            "exp": now + self.expires_in,
        } | claims
        said = {name: value for name, value in said.items() if value is not None}
        if secret is not None:
            return jwt.encode(said, secret, "HS256", header)
        return jwt.encode(said, self.keys[self.kid], "ES256", {"kid": self.kid} | (header or {}))

    def sign_in_elsewhere(self, url: str, user: Known) -> str:
        """What a browser does at the provider: where Supabase sends it afterwards."""
        query = parse_qs(urlsplit(url).query)
        return self._back(user, query["redirect_to"][0], query["code_challenge"][0])

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/auth/v1/token", self._token),
            web.post("/auth/v1/otp", self._otp),
            web.get("/auth/v1/user", self._user),
            web.get("/auth/v1/settings", self._settings),
            web.get("/auth/v1/authorize", self._authorize),
            web.get("/auth/v1/.well-known/jwks.json", self._jwks),
        ]

    def _back(self, user: Known, redirect_to: str, challenge: str) -> str:
        code = str(uuid4())
        self._codes[code] = (user, challenge)
        return f"{redirect_to}{'&' if '?' in redirect_to else '?'}code={code}"

    def _check(self, request: web.Request) -> None:
        if self.down:
            raise web.HTTPServiceUnavailable(text="upstream connect error")
        if request.headers.get("apikey") != ANON_KEY or not request.headers.get("Authorization", "").startswith("Bearer "):
            raise web.HTTPUnauthorized(text='{"message":"No API key found in request"}', content_type="application/json")
        if request.method == "POST" and request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType()

    async def _token(self, request: web.Request) -> web.Response:
        self._check(request)
        body, kind = await request.json(), request.query.get("grant_type")
        self.sent.append({"grant_type": kind, **body})
        match kind:
            case "password":
                _only(body, {"email", "password"})
                user = self._by_email(body["email"])
                if user is None or not user.password or user.password != body["password"]:
                    return _refused(400, "invalid_credentials", "Invalid login credentials")
            case "refresh_token":
                _only(body, {"refresh_token"})
                self.refreshes += 1
                token = body["refresh_token"]
                if token in self._used:
                    return _refused(400, "refresh_token_already_used", "Invalid Refresh Token: Already Used")
                user = self._refresh.get(token)
                if user is None:
                    return _refused(400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")
                self._used.add(token)
            case "pkce":
                _only(body, {"auth_code", "code_verifier"})
                user, challenge = self._codes.pop(body["auth_code"], (None, ""))
                made = base64.urlsafe_b64encode(hashlib.sha256(body["code_verifier"].encode()).digest()).rstrip(b"=").decode()
                if user is None:
                    return _refused(404, "flow_state_not_found", "invalid flow state, no valid flow state found")
                if not 43 <= len(body["code_verifier"]) <= 128 or made != challenge:
                    return _refused(400, "bad_code_verifier", "code challenge does not match previously saved code verifier")
            case _:
                return _refused(400, "validation_failed", "unsupported_grant_type")
        if user.banned:
            return _refused(400, "user_banned", "User is banned")
        fresh = secrets.token_urlsafe(9)
        self._refresh[fresh] = user
        tokens = {"access_token": self.token(user), "token_type": "bearer", "expires_in": self.expires_in, "refresh_token": fresh}
        return web.json_response(tokens | {"expires_at": int(time.time()) + self.expires_in, "user": user.view()})

    async def _otp(self, request: web.Request) -> web.Response:
        self._check(request)
        body = await request.json()
        _only(body, {"email", "create_user", "code_challenge", "code_challenge_method", "data"})
        _check_challenge(body)
        self.sent.append(body)
        user = self._by_email(body["email"])
        if user is None:
            if not body["create_user"]:
                return _refused(422, "otp_disabled", "Signups not allowed for otp")
            user = Known(body["email"])
            self.users.append(user)
        self.mails.append((user.email, self._back(user, request.query["redirect_to"], body["code_challenge"])))
        return web.json_response({})

    async def _user(self, request: web.Request) -> web.Response:
        self._check(request)
        token = request.headers["Authorization"].removeprefix("Bearer ")
        claims = jwt.decode(token, options={"verify_signature": False})
        user = next((one for one in self.users if one.id == claims["sub"]), None)
        if user is None or user.banned:
            return _refused(403, "session_not_found", "Session from session_id claim in JWT does not exist")
        return web.json_response(user.view())

    async def _settings(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response({"external": self.providers, "disable_signup": False, "mailer_autoconfirm": self.autoconfirm})

    async def _authorize(self, request: web.Request) -> web.Response:
        _check_challenge(dict(request.query))
        if not self.providers.get(request.query["provider"]):
            return _refused(400, "validation_failed", "Unsupported provider: provider is not enabled")
        raise web.HTTPFound("https://provider.example/login")

    async def _jwks(self, request: web.Request) -> web.Response:
        self._check(request)
        self.key_reads += 1
        keys = []
        for kid, key in self.keys.items():
            public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
            keys.append(public | {"kid": kid, "alg": "ES256", "use": "sig", "key_ops": ["verify"], "ext": True})
        return web.json_response({"keys": keys}, headers={"Cache-Control": "public, max-age=600"})

    def _by_email(self, email: str) -> Known | None:
        return next((one for one in self.users if one.email.lower() == email.lower()), None)


def _only(body: dict[str, Any], names: set[str]) -> None:
    if body.keys() - names - {"gotrue_meta_security"} or not body.keys() & names:
        raise web.HTTPBadRequest(text=f"unknown among {sorted(body)}")


def _check_challenge(asked: dict[str, Any]) -> None:
    if not _CHALLENGE.fullmatch(asked.get("code_challenge", "")) or asked.get("code_challenge_method") != "s256":
        raise web.HTTPBadRequest(text="PKCE wants an S256 challenge")


def _refused(status: int, code: str, words: str) -> web.Response:
    return web.json_response({"code": status, "error_code": code, "msg": words}, status=status)
