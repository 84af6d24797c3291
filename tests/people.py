"""People to ask with: an account of its own for each, signed in, made by the role that may see everything."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import httpx
from argon2 import PasswordHasher

from backend.accounts.schemas import Role
from backend.kit.ids import uuid7
from tests.conftest import Servers

PASSWORD = "correct horse battery"
_HASHES: dict[str, str] = {}


@dataclass(frozen=True)
class Person:
    """Somebody with a password, and the account he works in."""

    user_id: UUID
    account_id: UUID
    email: str


async def add_person(
    admin_dsn: str, email: str = "ada@example.org", *, role: Role = "owner", account_id: UUID | None = None
) -> Person:
    """A person with `PASSWORD`, in an account of his own or in a given one."""
    hashed = _HASHES.setdefault(PASSWORD, PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD))
    person = Person(uuid7(), account_id or uuid7(), email)
    connection = await asyncpg.connect(admin_dsn)
    try:
        sql = "INSERT INTO users (user_id, email, name, password_hash) VALUES ($1, $2, $3, $4)"
        await connection.execute(sql, person.user_id, email, email.partition("@")[0].title(), hashed)
        if account_id is None:
            await connection.execute(
                "INSERT INTO accounts (account_id, name) VALUES ($1, 'Team')", person.account_id
            )
        sql = "INSERT INTO memberships (account_id, user_id, role) VALUES ($1, $2, $3)"
        await connection.execute(sql, person.account_id, person.user_id, role)
    finally:
        await connection.close()
    return person


async def admin(servers: Servers, sql: str, *values: Any) -> Any:
    """What one statement gives, asked by the role that may see everything: the first column of its first row."""
    connection = await asyncpg.connect(servers.admin_dsn)
    try:
        return await connection.fetchval(sql, *values)
    finally:
        await connection.close()


@asynccontextmanager
async def browser(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that keeps cookies and tells where its requests come from, as browsers do."""
    async with httpx.AsyncClient(
        base_url=url, headers={"Sec-Fetch-Site": "same-origin"}, timeout=20
    ) as client:
        yield client


@asynccontextmanager
async def signed_in(url: str, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    """A browser in which the person is signed in."""
    async with browser(url) as client:
        answer = await client.post("/api/auth/login", json={"email": person.email, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        yield client
