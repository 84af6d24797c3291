"""What accounts say and hear over HTTP."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

Role = Literal["owner", "editor", "approver", "viewer"]
Scope = Literal["read", "write", "approve", "manage"]
SCOPES: tuple[Scope, ...] = ("read", "write", "approve", "manage")
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
    """A key for programs. Every key may read; it never may more than its person's role."""

    name: str = Field(min_length=1, max_length=200)
    scopes: list[Scope] = Field(list(SCOPES), max_length=10, description="What the key may do; without it all that its person may.")
    expires_at: AwareDatetime | None = Field(None, description="When it stops working; without it never.")


class ApiKey(_View):
    """A key as it is listed: its beginning only."""

    key_id: UUID
    name: str
    prefix: str
    scopes: list[Scope]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


class CreatedApiKey(ApiKey):
    """A new key. `key` is shown this once."""

    key: str


# Members ----------------------------------------------------------------------------------------------------------------


class Member(_View):
    """A person in an account."""

    user_id: UUID
    email: str
    name: str
    role: Role
    joined_at: datetime


class RoleChange(BaseModel):
    """Another role for a member."""

    role: Role


class NewInvitation(BaseModel):
    """Somebody is asked to come into the account."""

    email: Email
    role: Role = "viewer"


class Invitation(_View):
    """An invitation that was not used yet."""

    invitation_id: UUID
    email: str
    role: Role
    created_at: datetime
    expires_at: datetime


class CreatedInvitation(Invitation):
    """A new invitation. `link` is shown this once; whoever has it can use it."""

    link: str


class InvitationToken(BaseModel):
    """The secret part of an invitation's link."""

    token: str = Field(min_length=1, max_length=200)


class InvitationPreview(_View):
    """What whoever holds the link may know. `known` says that the address has a person, who signs in before he accepts."""

    account_name: str
    email: str
    role: Role
    known: bool


class Acceptance(InvitationToken):
    """An invitation is accepted: by a new person with a name and a password, by one who is signed in without."""

    name: str | None = Field(None, min_length=1, max_length=200)
    password: Password | None = None


class SignUp(BaseModel):
    """A new person. `invitation` is the token of one, where only invited people may come."""

    email: Email
    name: str = Field(min_length=1, max_length=200)
    password: Password
    invitation: str | None = Field(None, min_length=1, max_length=200)


class Transfer(BaseModel):
    """The account is handed to a member; who hands it over stays as an editor. Confirmed by one's password."""

    user_id: UUID
    password: str = Field(min_length=1, max_length=1000)


# Accounts ---------------------------------------------------------------------------------------------------------------


class AccountName(BaseModel):
    """How an account is called."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class AccountDeletion(BaseModel):
    """An account is deleted with everything in it: confirmed by the owner's password and the account's name, typed."""

    password: str = Field(min_length=1, max_length=1000)
    name: str = Field(min_length=1, max_length=200)


class DeletedRows(_View):
    """One table: how many rows the account had, and how many are left of them."""

    table: str
    deleted: int
    remaining: int


class DeletedAccount(_View):
    """The proof: counted again after the deletion, table by table. `signed_out` says that one's person went too."""

    tables: list[DeletedRows]
    signed_out: bool


# Sessions and the audit log ---------------------------------------------------------------------------------------------


class SessionView(_View):
    """A browser in which a person is signed in. `network` is where it signed in from."""

    session_id: UUID
    user_agent: str
    network: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    current: bool


class EndedSessions(_View):
    """How many sessions ended."""

    ended: int


class AuditEntry(_View):
    """Who did what that matters for security. The person's name is empty when he has gone."""

    entry_id: UUID
    created_at: datetime
    act: str
    object: str
    detail: dict[str, Any]
    user_id: UUID | None
    user_name: str


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
    auth_providers: list[str] = Field([], description="Who else signs people in, e.g. `github`: GET /api/auth/oauth/{provider}.")
    features: dict[str, Feature]
