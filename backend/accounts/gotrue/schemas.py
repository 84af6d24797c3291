"""The wire of Supabase's auth clients: what they send and what they read. What we have no use for is not named and is passed over."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from backend.accounts.schemas import Email

_MAX_METADATA = 64  # keys

Scope = Literal["global", "local", "others"]
GrantType = Literal["password", "refresh_token"]


def _small(data: dict[str, Any]) -> dict[str, Any]:
    try:
        written = orjson.dumps(data)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"cannot be kept: {error}") from error
    if len(data) > _MAX_METADATA or len(written) > 16_384:
        raise ValueError(f"may hold {_MAX_METADATA} keys and 16 KiB at most")
    if b"\\u0000" in written:
        raise ValueError("may not hold the character U+0000")
    return data


def _plain(text: str) -> str:
    if "\0" in text:
        raise ValueError("may not hold the character U+0000")
    return text


Address = Annotated[Email, AfterValidator(_plain)]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]


class SignUp(BaseModel):
    """A new person. A name may stand in `data.name` or `data.full_name`."""

    email: Address
    password: str = Field(max_length=1000)
    data: Metadata = {}


class Grant(BaseModel):
    """What a session is asked for with: an address and its password, or a refresh token."""

    email: Address | None = None
    password: str | None = Field(None, min_length=1, max_length=1000)
    refresh_token: str | None = Field(None, min_length=1, max_length=200)


class Recover(BaseModel):
    """Somebody has forgotten his password."""

    email: Address


class Verify(BaseModel):
    """The token from a mail: alone as `token_hash`, or as `token` beside the address it went to."""

    type: Literal["recovery"]
    token_hash: str | None = Field(None, min_length=1, max_length=200)
    token: str | None = Field(None, min_length=1, max_length=200)
    email: Address | None = None


class UserUpdate(BaseModel):
    """What a person changes of himself. Keys of `data` are merged; null takes one away."""

    email: Address | None = None
    password: str | None = Field(None, max_length=1000)
    current_password: str | None = Field(None, max_length=1000)
    data: Metadata = {}


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class Identity(_View):
    """How a person signs in."""

    identity_id: UUID
    id: str
    user_id: UUID
    provider: str = "email"
    identity_data: dict[str, Any]
    email: str
    created_at: datetime
    updated_at: datetime
    last_sign_in_at: datetime | None


class TokenUser(_View):
    """A person as Supabase's clients know one."""

    id: UUID
    aud: str = "authenticated"
    role: str = "authenticated"
    email: str
    phone: str = ""
    email_confirmed_at: datetime | None
    confirmed_at: datetime | None
    last_sign_in_at: datetime | None
    app_metadata: dict[str, Any]
    user_metadata: dict[str, Any]
    identities: list[Identity]
    created_at: datetime
    updated_at: datetime
    is_anonymous: bool = False


class TokenSession(_View):
    """A session: an access token for an hour, and a refresh token that is good once."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int
    expires_at: int
    refresh_token: str
    user: TokenUser


class TokenSettings(_View):
    """What can be done here, as Supabase's clients ask it."""

    external: dict[str, bool]
    disable_signup: bool
    mailer_autoconfirm: bool = True
    phone_autoconfirm: bool = False
    sms_provider: str = ""
    saml_enabled: bool = False


class Empty(_View):
    """Nothing to say."""


class KeySet(_View):
    """The keys that access tokens are checked with (RFC 7517)."""

    keys: list[dict[str, Any]]


class TokenError(_View):
    """Why a request was refused, in the words that Supabase's clients know."""

    code: int
    error_code: str
    msg: str
    weak_password: dict[str, list[str]] | None = None
