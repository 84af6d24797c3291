"""Every act that matters for security is written down, and the table of them is true."""

import ast
import re
from collections.abc import Iterator
from uuid import UUID

import asyncpg

from backend.accounts import service
from backend.kit.db import Database
from tests.conftest import Servers
from tests.people import PASSWORD, add_person, browser
from tests.product import ROOT, Started


def documented() -> set[str]:
    """The acts of the table in docs/people.md."""
    table = (ROOT / "docs" / "people.md").read_text().partition("## Audit log")[2]
    return {act for line in table.splitlines() if line.startswith("| `") for act in re.findall(r"`([a-z._]+)`", line.split("|")[1])}


def written() -> Iterator[str]:
    """Every act that the code writes down: the constants that calls of `audit`, and of what calls it with its caller's act, are given."""
    for path in (ROOT / "backend").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("audit", "_welcome", "_note"):
                for given in node.args:
                    if isinstance(given, ast.Constant) and isinstance(given.value, str) and given.value:
                        yield given.value


def test_the_table_of_acts_is_what_the_code_writes() -> None:
    assert set(written()) == documented()


async def test_each_act_of_people_leaves_its_row(server: Started, database: Database, servers: Servers) -> None:
    token = await service.issue_setup_token(database)
    eve = {"name": "Eve", "password": PASSWORD}
    async with browser(server.url) as ada, browser(server.url) as client:
        owner = {"token": token, "email": "ada@example.org", "name": "Ada", "password": PASSWORD}
        me = (await ada.post("/api/auth/setup", json=owner)).json()
        await ada.post("/api/auth/login", json={"email": "ada@example.org", "password": "wrong password"})
        key_id = (await ada.post("/api/accounts/api-keys", json={"name": "k"})).json()["key_id"]
        await ada.delete(f"/api/accounts/api-keys/{key_id}")
        for email in ("x@example.org", "eve@example.org"):
            made = (await ada.post("/api/accounts/invitations", json={"email": email})).json()
            if email.startswith("x"):
                await ada.delete(f"/api/accounts/invitations/{made['invitation_id']}")
        accepted = await client.post("/api/auth/invitations/accept", json={"token": made["link"].partition("token=")[2], **eve})
        user_id = accepted.json()["user"]["user_id"]
        await ada.patch(f"/api/accounts/members/{user_id}", json={"role": "owner"})
        await ada.patch(f"/api/accounts/{me['account']['account_id']}", json={"name": "Both"})
        await ada.get("/api/accounts/export")
        await ada.patch("/api/auth/me", json={"new_password": PASSWORD + "!", "current_password": PASSWORD})
        await ada.delete("/api/auth/sessions")
        other = (await ada.post("/api/accounts", json={"name": "Other"})).json()["account_id"]
        await ada.post(f"/api/accounts/{other}/switch")
        await ada.post(f"/api/accounts/{me['account']['account_id']}/switch")
        await ada.post("/api/accounts/transfer", json={"user_id": user_id, "password": PASSWORD + "!"})
        ended = next(one for one in (await client.get("/api/auth/sessions")).json() if one["current"])
        async with browser(server.url) as second:
            await second.post("/api/auth/login", json={"email": "eve@example.org", "password": PASSWORD})
            await second.delete(f"/api/auth/sessions/{ended['session_id']}")
            await ada.post("/api/accounts/leave")
            account_id = UUID(me["account"]["account_id"])
            carl = await add_person(servers.admin_dsn, "carl@example.org", role="viewer", account_id=account_id)
            await second.delete(f"/api/accounts/members/{carl.user_id}")
            await second.post("/api/auth/logout")
    await service.reset_password(database, "eve@example.org", "quite another phrase")
    connection = await asyncpg.connect(servers.admin_dsn)
    acts = {row["act"] for row in await connection.fetch("SELECT act FROM audit_log WHERE user_id IS NOT NULL")}
    await connection.close()
    families = ("owner", "login", "logout", "invitation", "member", "account", "key", "password", "sessions", "session.ended")
    assert {act for act in documented() if act.startswith(families)} - acts == set()

