"""What accounts say and hear over HTTP."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Role = Literal["owner", "editor", "approver", "viewer"]
Email = Annotated[str, StringConstraints(strip_whitespace=True, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]
Password = Annotated[str, StringConstraints(min_length=10, max_length=1000)]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class Setup(BaseModel):
    """The first owner. `token` is the one in the address that was printed at the first start."""

    token: str = Field(min_length=1, max_length=200)
    email: Email
    name: str = Field(min_length=1, max_length=200)
    password: Password


class Login(BaseModel):
    """A person signs in."""

    email: Email
    password: str = Field(min_length=1, max_length=1000)


class ProfileUpdate(BaseModel):
    """What a person changes of himself. A new password wants the current one."""

    name: str | None = Field(None, min_length=1, max_length=200)
    current_password: str | None = Field(None, max_length=1000)
    new_password: Password | None = None


class User(_View):
    """A person."""

    user_id: UUID
    email: str
    name: str


class Account(_View):
    """What a person works in, and his role there."""

    account_id: UUID
    name: str
    role: Role


class Me(_View):
    """Who is asking."""

    user: User
    account: Account


class NewApiKey(BaseModel):
    """A key for programs."""

    name: str = Field(min_length=1, max_length=200)


class ApiKey(_View):
    """A key as it is listed: its beginning only."""

    key_id: UUID
    name: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None


class CreatedApiKey(ApiKey):
    """A new key. `key` is shown this once."""

    key: str


class Feature(_View):
    """A part of the product: on, or off with the reason and what to do."""

    on: bool
    reason: str = ""
    fix: str = ""


class Config(_View):
    """What a page needs to know before anyone has signed in."""

    version: str
    setup_required: bool
    auth_mode: Literal["local", "supabase"]
    features: dict[str, Feature]
