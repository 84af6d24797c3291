"""What each role may do, over every route of the OpenAPI document."""

from collections.abc import Iterable, Iterator
from typing import Any, get_args
from uuid import UUID

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from backend.accounts.auth import Decider, Editor, Manager
from backend.accounts.schemas import Role
from backend.api import create_app
from backend.kit.settings import Settings
from tests.conftest import Servers
from tests.people import add_person, signed_in
from tests.product import Started
from tests.test_tenants import OPEN, Hers, ada, body_of, filled, hers, operations, rows_of

__all__ = ["ada", "hers"]  # fixtures

RIGHTS = {get_args(kind)[1].dependency: right for right, kind in (("edit", Editor), ("decide", Decider), ("manage", Manager))}
LACKS: dict[Role, set[str]] = {"editor": {"decide", "manage"}, "approver": {"edit", "manage"}, "viewer": {"edit", "decide", "manage"}}

# Signing in and out, and who one is: no matter of an account.
ONESELF = ("/api/auth/", "/auth/v1/")
# What else everybody may send although it is no GET: it is about himself alone, or it changes nothing.
HIS_OWN = {
    "create_api_key", "revoke_api_key", "create_account", "switch_account", "leave_account", "validate_agent", "read_all_notifications",
    "read_notification",
}  # fmt: skip
# Tables of what a person did of himself.
MINE = {"sessions", "audit_log", "memberships", "api_keys", "idempotency_keys", "notification_reads"}


def rights() -> dict[str, set[str]]:
    """Which rights each route asks for, from the routes themselves."""
    return {route.name: set(asked_for(route.dependant)) for route in flat(create_app(Settings(_env_file=None)).routes)}


def flat(routes: Iterable[Any]) -> Iterator[APIRoute]:
    """Routes, also those of routers that were included."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif included := getattr(route, "original_router", None):
            yield from flat(included.routes)


def asked_for(dependant: Dependant) -> Iterator[str]:
    for one in dependant.dependencies:
        if one.call in RIGHTS:
            yield RIGHTS[one.call]
        yield from asked_for(one)


def changes() -> list[tuple[str, str, str, dict[str, Any]]]:
    """Every route that may change something of an account."""
    return [one for one in operations() if one[1] != "GET" and one[0] not in OPEN and not one[2].startswith(ONESELF)]


def test_every_route_that_changes_something_asks_for_a_right() -> None:
    asked = rights()
    assert {name for name, *_ in changes() if not asked[name]} - HIS_OWN == set()


@pytest.mark.parametrize("role", list(LACKS))
async def test_a_role_is_refused_whatever_its_rights_do_not_cover_and_changes_nothing_by_it(
    server: Started, servers: Servers, hers: Hers, role: Role
) -> None:
    person = await add_person(servers.admin_dsn, f"{role}@example.org", role=role, account_id=UUID(hers["account_id"]))
    before = await rows_of(servers, person.account_id)
    asked, tried, wrong = rights(), 0, []
    async with signed_in(server.url, person) as client:
        for name, method, path, operation in operations():
            if asked[name] & LACKS[role]:
                answer = await client.request(method, filled(path, hers), json=body_of(name, operation, hers))
                tried += 1
                wrong += [f"{name}: {answer.status_code}"] if answer.status_code != 403 else []
    assert wrong == [] and tried > 10
    assert without(await rows_of(servers, person.account_id)) == without(before)


async def test_a_viewer_can_change_nothing_of_the_account(server: Started, servers: Servers, hers: Hers) -> None:
    """Also not by what everybody may send."""
    viewer = await add_person(servers.admin_dsn, "viewer@example.org", role="viewer", account_id=UUID(hers["account_id"]))
    before = await rows_of(servers, viewer.account_id)
    async with signed_in(server.url, viewer) as client:
        for name, method, path, operation in sorted(changes(), key=lambda one: one[0] == "leave_account"):
            await client.request(method, filled(path, hers), json=body_of(name, operation, hers))
    after = await rows_of(servers, viewer.account_id)
    assert without(after) == without(before)
    assert [row for row in after["memberships"] if hers["user_id"] in row] == [row for row in before["memberships"] if hers["user_id"] in row]


def without(rows: dict[str, list[str]]) -> dict[str, list[str]]:
    return {table: found for table, found in rows.items() if table not in MINE}
