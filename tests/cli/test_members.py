"""`vibe members`, `vibe keys` and `vibe export`, against the running product."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.product import Product


@pytest.fixture
def running(product: Product) -> Iterator[Product]:
    """The product, up, with an owner."""
    product.start()
    made = product.vibe("owner", "create", "--email", "a@example.org", "--name", "Ann", VIBE_OWNER_PASSWORD="correct horse battery")
    assert made.returncode == 0, made.stderr
    yield product


def test_people_are_invited_given_roles_and_removed(running: Product) -> None:
    link = running.vibe("members", "invite", "eve@example.org", "--role", "editor").stdout.strip()
    address, _, token = link.partition("/invite?token=")
    accepted = httpx.post(f"{address}/api/auth/invitations/accept", json={"token": token, "name": "Eve", "password": "a long password"})
    assert accepted.status_code == 200, accepted.text
    assert [line.split()[1:4] for line in running.vibe("members", "list").stdout.splitlines()[1:]] == [
        ["a@example.org", "Ann", "owner"], ["eve@example.org", "Eve", "editor"]
    ]  # fmt: skip
    changed = json.loads(running.vibe("members", "role", "EVE@example.org", "approver", "--json").stdout)
    assert changed["role"] == "approver"
    last = running.vibe("members", "role", "a@example.org", "viewer")
    assert last.returncode == 1 and "needs an owner" in last.stderr
    assert running.vibe("members", "remove", "eve@example.org").returncode == 2
    assert running.vibe("members", "remove", "eve@example.org", "--yes").returncode == 0
    assert len(json.loads(running.vibe("members", "list", "--json").stdout)) == 1
    nobody = running.vibe("members", "remove", "eve@example.org", "--yes")
    assert nobody.returncode == 1 and "Nobody in the account" in nobody.stderr


def test_keys_are_made_listed_and_revoked_and_the_account_is_taken_out(running: Product, tmp_path: Path) -> None:
    made = json.loads(running.vibe("keys", "create", "ci", "--scope", "write", "--days", "90", "--json").stdout)
    assert made["scopes"] == ["read", "write"] and made["expires_at"]
    listed = running.vibe("keys", "list", VIBE_API_KEY=made["key"]).stdout
    assert "read, write" in listed and made["key"] not in listed
    limited = running.vibe("members", "invite", "x@example.org", VIBE_API_KEY=made["key"])
    assert limited.returncode == 1 and "lacks the scope" in limited.stderr
    assert running.vibe("keys", "create", "x", "--scope", "everything").returncode == 2
    assert running.vibe("keys", "revoke", "ci").returncode == 0
    assert running.vibe("keys", "list", VIBE_API_KEY=made["key"]).returncode == 1
    assert running.vibe("keys", "revoke", "ci").returncode == 1

    file = tmp_path / "account.zip"
    done = json.loads(running.vibe("export", str(file), "--json").stdout)
    assert done == {"file": str(file), "bytes": file.stat().st_size} and file.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(file) as archive:
        assert json.loads(archive.read("export.json"))["rows"]["accounts"] == 1
    assert list(tmp_path.iterdir()) == [file]
