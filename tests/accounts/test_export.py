"""Everything an account has in one ZIP, and no secret in it."""

import io
import json
import zipfile

import httpx

from backend.accounts.export import FORMAT, VERSION
from tests.conftest import Servers
from tests.people import PASSWORD, add_person, signed_in
from tests.product import Started
from tests.test_tenants import MARK, connected, make_everything, rows_of, tenant_tables


async def exported(client: httpx.AsyncClient) -> dict[str, str]:
    """The files of an export as text."""
    answer = await client.get("/api/accounts/export")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip" and "attachment" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


async def test_every_row_of_the_account_is_in_it_and_nobody_elses(server: Started, servers: Servers) -> None:
    ada = await add_person(servers.admin_dsn, "ada@example.org")
    bob = await add_person(servers.admin_dsn, "bob@example.org")
    async with signed_in(server.url, ada) as client, signed_in(server.url, bob) as other:
        await make_everything(client, servers, ada)
        await client.get("/api/accounts/export")
        files, rows = await exported(client), await rows_of(servers, ada.account_id)
        his = await exported(other)
    about = json.loads(files["export.json"])
    assert (about["format"], about["version"], about["account_id"]) == (FORMAT, VERSION, str(ada.account_id))
    async with connected(servers.admin_dsn) as connection:
        assert set(about["rows"]) == set(await tenant_tables(connection))
    for table, found in rows.items():
        written = json.loads(files[f"tables/{table}.json"])
        assert len(written) == about["rows"][table] == len(found) > 0, table
        originals = {frozenset(json.loads(row)) for row in found}
        assert all(frozenset(row) <= original for row in written for original in originals)
    assert json.loads(files["members.json"])[0]["email"] == "ada@example.org"
    assert MARK not in "".join(his.values()) and str(ada.account_id) not in "".join(his.values())


async def test_agents_can_be_imported_again_and_threads_are_whole(server: Started, servers: Servers) -> None:
    ada = await add_person(servers.admin_dsn, "ada@example.org")
    async with signed_in(server.url, ada) as client:
        await make_everything(client, servers, ada)
        files = await exported(client)
        yaml = next(text for name, text in files.items() if name.startswith("agents/"))
        again = await client.post("/api/agents/import", json={"yaml": yaml})
        assert again.status_code == 201 and (await client.get(f"/api/agents/{again.json()['agent_id']}/export")).text == yaml
    name, text = next((name, text) for name, text in files.items() if name.startswith("threads/"))
    thread = json.loads(text)
    assert name == f"threads/000001-{MARK}.json"
    assert thread["title"] == MARK and [message["content"] for message in thread["messages"]] == [MARK]


async def test_no_secret_is_in_it(server: Started, servers: Servers) -> None:
    ada = await add_person(servers.admin_dsn, "ada@example.org")
    async with signed_in(server.url, ada) as client:
        key = (await client.post("/api/accounts/api-keys", json={"name": "k"})).json()["key"]
        link = (await client.post("/api/accounts/invitations", json={"email": "x@example.org"})).json()["link"]
        await client.put("/api/inference/providers/openai", json={"api_key": "sk-very-secret-indeed"})
        whole = "".join((await exported(client)).values())
    async with connected(servers.admin_dsn) as connection:
        kept = await connection.fetchrow(
            "SELECT encode(k.key_hash, 'hex') a, encode(s.token_hash, 'hex') b, u.password_hash c, encode(i.token_hash, 'hex') d, encode(c.sealed, 'hex') e"
            " FROM api_keys k, sessions s, users u, invitations i, credentials c"
        )
    for secret in (key, link.partition("token=")[2], "sk-very-secret-indeed", PASSWORD, "argon2", *kept.values()):
        assert secret not in whole


async def test_only_an_owner_takes_it_away(server: Started, servers: Servers) -> None:
    ada = await add_person(servers.admin_dsn, "ada@example.org")
    editor = await add_person(servers.admin_dsn, "ed@example.org", role="editor", account_id=ada.account_id)
    async with signed_in(server.url, editor) as client:
        assert (await client.get("/api/accounts/export")).status_code == 403
