"""Agents over HTTP: made, found, drafted, published, rolled back, compared, copied, exported, taken away."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from backend.agent.templates import TEMPLATES
from backend.kit.ids import uuid7
from tests.agent.test_agents_yaml import OVERVIEW
from tests.conftest import Servers
from tests.people import Person, add_person, signed_in
from tests.product import Started


@pytest.fixture
async def person(servers: Servers, clean: None) -> Person:
    return await add_person(servers.admin_dsn)


@pytest.fixture
async def client(server: Started, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    async with signed_in(server.url, person) as opened:
        yield opened


@pytest.fixture
async def admin(servers: Servers) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(servers.admin_dsn)
    yield connection
    await connection.close()


async def make(client: httpx.AsyncClient, **config: Any) -> dict[str, Any]:
    answer = await client.post("/api/agents", json={"config": {"name": "Ada"} | config})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def draft(client: httpx.AsyncClient, agent_id: str, **config: Any) -> httpx.Response:
    return await client.put(f"/api/agents/{agent_id}/draft", json={"config": {"name": "Ada"} | config})


async def publish(client: httpx.AsyncClient, agent_id: str, note: str = "", **config: Any) -> dict[str, Any]:
    """Save a draft and publish it."""
    assert (await draft(client, agent_id, **config)).status_code == 200
    answer = await client.post(f"/api/agents/{agent_id}/versions", json={"note": note})
    assert answer.status_code == 201, answer.text
    published: dict[str, Any] = answer.json()
    return published


# Making and finding -----------------------------------------------------------------------------------------------------


async def test_a_new_agent_is_version_one_and_fills_the_overviews_columns(
    client: httpx.AsyncClient, admin: Any
) -> None:
    model = {"provider": "openai", "name": "gpt-4o"}
    made = await make(
        client, system_prompt="Be kind.", model=model, tools=["sb_shell_tool", "file_operations"]
    )
    assert made["active_version"] == 1 and made["has_draft"] is False
    assert made["config"]["tools"] == ["code_execution", "file_operations"]
    assert (await client.get(f"/api/agents/{made['agent_id']}")).json() == made
    row = await admin.fetchrow("SELECT name, system_prompt, model_name, tools::text FROM agents")
    assert tuple(row) == ("Ada", "Be kind.", "openai/gpt-4o", '["code_execution", "file_operations"]')


async def test_asking_twice_under_one_key_makes_one_agent(client: httpx.AsyncClient) -> None:
    headers, body = {"Idempotency-Key": "k1"}, {"config": {"name": "Ada"}}
    answers = await asyncio.gather(
        *(client.post("/api/agents", json=body, headers=headers) for _ in range(5))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["agent_id"] for answer in answers}) == 1
    imported = await client.post(
        "/api/agents/import", json={"yaml": "agent: {name: Ada}"}, headers={"Idempotency-Key": "k2"}
    )
    assert imported.json()["agent_id"] != answers[0].json()["agent_id"]
    other = await client.post("/api/agents", json={"config": {"name": "Eva"}}, headers=headers)
    assert other.status_code == 409
    path = f"/api/agents/{imported.json()['agent_id']}/duplicate"
    copies = [await client.post(path, json={}, headers={"Idempotency-Key": "k3"}) for _ in range(2)]
    assert copies[0].json() == copies[1].json()
    assert len((await client.get("/api/agents")).json()["items"]) == 3


async def test_a_model_name_longer_than_the_overviews_column_is_no_error(
    client: httpx.AsyncClient, admin: Any
) -> None:
    made = await make(client, model={"provider": "custom", "name": "m" * 200})
    assert made["config"]["model"]["name"] == "m" * 200
    assert await admin.fetchval("SELECT length(model_name) FROM agents") == 100


async def test_a_tool_or_permission_that_does_not_exist_is_refused_with_its_place(
    client: httpx.AsyncClient,
) -> None:
    config = {"name": "Ada", "tools": ["code_execution", "browzer"], "permissions": {"shel": "deny"}}
    answer = await client.post("/api/agents", json={"config": config})
    assert answer.status_code == 422
    assert {error["loc"] for error in answer.json()["errors"]} == {
        "config.tools.1",
        "config.permissions.shel",
    }


async def test_parts_that_do_not_work_yet_are_kept_and_shown_as_off(client: httpx.AsyncClient) -> None:
    made = (await client.post("/api/agents/import", json={"yaml": OVERVIEW})).json()
    off = {part["part"]: part["reason"] for part in made["off"]}
    assert {"tools.web_search", "tools.browser", "knowledge_base", "memory", "triggers"} <= off.keys()
    assert all(off.values())
    assert made["config"]["triggers"][0]["schedule"] == "0 9 * * *"


async def test_agents_are_listed_newest_first_in_pages(client: httpx.AsyncClient) -> None:
    for number in range(5):
        await make(client, name=f"Agent {number}")
    names, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/agents", params=params)).json()
        names += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert names == [f"Agent {number}" for number in (4, 3, 2, 1, 0)]


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("rese", {"Research 100%"}),
        ("0%", {"Research 100%"}),
        ("_", set()),
        ("a", {"Research 100%", "Ada"}),
        ("\\", set()),
    ],
)
async def test_agents_are_found_by_a_part_of_their_name(
    client: httpx.AsyncClient, q: str, found: set[str]
) -> None:
    await make(client)
    await make(client, name="Research 100%")
    page = (await client.get("/api/agents", params={"q": q})).json()
    assert {item["name"] for item in page["items"]} == found


async def test_an_agent_that_is_taken_away_stops_its_runs_and_is_not_found(
    client: httpx.AsyncClient, admin: Any
) -> None:
    made = await make(client, model={"provider": "scripted", "name": "demo"})
    thread = (await client.post("/api/threads", json={"agent_id": made["agent_id"]})).json()
    message = {"message_id": str(uuid7()), "content": "#script\nwait 600"}  # longer than the test, whether a worker has it or not
    run = (await client.post(f"/api/threads/{thread['thread_id']}/runs", json={"message": message})).json()
    assert (await client.delete(f"/api/agents/{made['agent_id']}")).status_code == 204
    assert (await client.get(f"/api/agents/{made['agent_id']}")).status_code == 404
    assert (await client.delete(f"/api/agents/{made['agent_id']}")).status_code == 404
    assert (await client.get("/api/agents")).json()["items"] == []
    assert (await client.get(f"/api/runs/{run['run_id']}")).json()["stop_requested"] is True
    assert (await client.get(f"/api/threads/{thread['thread_id']}/messages")).json()["items"][0]["content"] == message["content"]
    assert await admin.fetchval("SELECT count(*) FROM audit_log WHERE act = 'agent.deleted'") == 1


# Drafts -----------------------------------------------------------------------------------------------------------------


async def test_without_a_draft_the_active_configuration_is_read(client: httpx.AsyncClient) -> None:
    made = await make(client)
    read = (await client.get(f"/api/agents/{made['agent_id']}/draft")).json()
    assert (read["exists"], read["revision"], read["based_on"]) == (False, 0, 1)
    assert read["config"] == made["config"]
    assert read["yaml"] == "agent:\n  name: Ada\n"


async def test_a_draft_is_saved_as_configuration_or_as_yaml(client: httpx.AsyncClient) -> None:
    made = await make(client)
    path = f"/api/agents/{made['agent_id']}/draft"
    first = (await client.put(path, json={"config": {"name": "Ada", "system_prompt": "one"}})).json()
    second = (await client.put(path, json={"yaml": "agent:\n  name: Ada\n  system_prompt: two\n"})).json()
    assert (first["revision"], second["revision"], second["config"]["system_prompt"]) == (1, 2, "two")
    agent = (await client.get(f"/api/agents/{made['agent_id']}")).json()
    assert agent["has_draft"] is True and agent["config"]["system_prompt"] == ""


@pytest.mark.parametrize("body", [{}, {"config": {"name": "A"}, "yaml": "agent:\n  name: A\n"}])
async def test_a_draft_is_one_of_the_two(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    made = await make(client)
    assert (await client.put(f"/api/agents/{made['agent_id']}/draft", json=body)).status_code == 400


async def test_a_yaml_that_is_wrong_is_refused_with_line_and_column(client: httpx.AsyncClient) -> None:
    made = await make(client)
    answer = await client.put(f"/api/agents/{made['agent_id']}/draft", json={"yaml": "agent:\n  nam: x\n"})
    assert answer.status_code == 422
    assert {
        "line": 2,
        "column": 3,
        "loc": "agent.nam",
        "message": "There is no key 'nam' here. Did you mean 'name'?",
    } in answer.json()["errors"]
    assert (await client.get(f"/api/agents/{made['agent_id']}/draft")).json()["exists"] is False


async def test_a_stale_save_is_refused_and_shows_what_stands_there(client: httpx.AsyncClient) -> None:
    made = await make(client)
    path = f"/api/agents/{made['agent_id']}/draft"
    read = await client.get(path)
    mine, theirs = {"config": {"name": "Mine"}}, {"config": {"name": "Theirs"}}
    saved = await client.put(path, json=theirs, headers={"If-Match": read.headers["ETag"]})
    stale = await client.put(path, json=mine, headers={"If-Match": read.headers["ETag"]})
    assert [saved.status_code, stale.status_code] == [200, 412]
    assert stale.json()["current"]["config"]["name"] == "Theirs"
    assert stale.headers["ETag"] == saved.headers["ETag"] == (await client.get(path)).headers["ETag"]
    again = await client.put(path, json=mine, headers={"If-Match": stale.headers["ETag"]})
    assert again.json()["config"]["name"] == "Mine"


async def test_of_many_saves_at_once_exactly_one_wins(client: httpx.AsyncClient) -> None:
    made = await make(client)
    path = f"/api/agents/{made['agent_id']}/draft"
    tag = (await client.get(path)).headers["ETag"]
    saves = [
        client.put(path, json={"config": {"name": f"N{n}"}}, headers={"If-Match": tag}) for n in range(8)
    ]
    statuses = sorted(answer.status_code for answer in await asyncio.gather(*saves))
    assert statuses == [200] + [412] * 7


async def test_a_tag_of_a_discarded_draft_does_not_match_its_successor(client: httpx.AsyncClient) -> None:
    made = await make(client)
    path = f"/api/agents/{made['agent_id']}/draft"
    old = await client.put(path, json={"config": {"name": "Old"}})
    assert (await client.delete(path, headers={"If-Match": '"nonsense"'})).status_code == 412
    assert (await client.delete(path, headers={"If-Match": old.headers["ETag"]})).status_code == 204
    await client.put(path, json={"config": {"name": "New"}})
    assert (
        await client.put(path, json={"config": {"name": "X"}}, headers={"If-Match": old.headers["ETag"]})
    ).status_code == 412


# Versions ---------------------------------------------------------------------------------------------------------------


async def test_publishing_makes_a_version_activates_it_and_ends_the_draft(
    client: httpx.AsyncClient, admin: Any
) -> None:
    made = await make(client)
    version = await publish(client, made["agent_id"], "sharper", system_prompt="two")
    assert (version["number"], version["active"], version["note"]) == (2, True, "sharper")
    agent = (await client.get(f"/api/agents/{made['agent_id']}")).json()
    assert (agent["active_version"], agent["has_draft"], agent["config"]["system_prompt"]) == (
        2,
        False,
        "two",
    )
    assert await admin.fetchval("SELECT system_prompt FROM agents") == "two"


async def test_publishing_what_was_published_before_is_that_version_again(client: httpx.AsyncClient) -> None:
    made = await make(client, permissions={"shell": "ask", "read_file": "allow"})
    await publish(client, made["agent_id"], system_prompt="two")
    again = await publish(client, made["agent_id"], permissions={"read_file": "allow", "shell": "ask"})
    assert again["number"] == 1 and again["active"] is True
    versions = (await client.get(f"/api/agents/{made['agent_id']}/versions")).json()["items"]
    assert [(version["number"], version["active"]) for version in versions] == [(2, False), (1, True)]


async def test_publishing_without_a_draft_changes_nothing(client: httpx.AsyncClient) -> None:
    made = await make(client)
    answer = await client.post(f"/api/agents/{made['agent_id']}/versions", json={})
    assert answer.json()["number"] == 1
    assert len((await client.get(f"/api/agents/{made['agent_id']}/versions")).json()["items"]) == 1


async def test_publishing_at_once_makes_one_version(client: httpx.AsyncClient) -> None:
    made = await make(client)
    await draft(client, made["agent_id"], system_prompt="two")
    path = f"/api/agents/{made['agent_id']}/versions"
    answers = await asyncio.gather(*(client.post(path, json={}) for _ in range(5)))
    assert {answer.json()["number"] for answer in answers} == {2}


async def test_rolling_back_restores_configuration_and_columns_and_keeps_the_draft(
    client: httpx.AsyncClient, admin: Any
) -> None:
    made = await make(client, model={"provider": "openai", "name": "gpt-4o"})
    await publish(client, made["agent_id"], name="Eva", system_prompt="two")
    await draft(client, made["agent_id"], system_prompt="three")
    back = await client.post(f"/api/agents/{made['agent_id']}/versions/1/activate")
    assert back.json()["active"] is True
    agent = (await client.get(f"/api/agents/{made['agent_id']}")).json()
    assert (agent["name"], agent["active_version"], agent["has_draft"]) == ("Ada", 1, True)
    assert tuple(await admin.fetchrow("SELECT name, model_name, active_version FROM agents")) == (
        "Ada",
        "openai/gpt-4o",
        1,
    )
    assert (await client.post(f"/api/agents/{made['agent_id']}/versions/9/activate")).status_code == 404


async def test_versions_never_change(
    client: httpx.AsyncClient, admin: Any, servers: Servers, person: Person
) -> None:
    made = await make(client)
    with pytest.raises(asyncpg.RaiseError, match="immutable"):
        await admin.execute("UPDATE agent_versions SET note = 'x'")
    connection = await asyncpg.connect(servers.dsn)
    try:
        for statement in ("UPDATE agent_versions SET note = 'x'", "DELETE FROM agent_versions"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
    assert (await client.get(f"/api/agents/{made['agent_id']}/versions/1")).json()["config"] == made["config"]


async def test_a_version_has_the_hash_of_its_content(client: httpx.AsyncClient) -> None:
    first, second = await make(client), await make(client)
    hashes = {
        (await client.get(f"/api/agents/{one['agent_id']}/versions/1")).json()["content_hash"]
        for one in (first, second)
    }
    assert len(hashes) == 1 and len(hashes.pop()) == 64


async def test_a_diff_goes_from_a_version_to_another_or_to_the_draft(client: httpx.AsyncClient) -> None:
    made = await make(client, system_prompt="one\nsame\n")
    await publish(client, made["agent_id"], system_prompt="two\nsame\n")
    await draft(client, made["agent_id"], system_prompt="three\nsame\n")
    path = f"/api/agents/{made['agent_id']}/versions/1/diff"

    def changed(answer: httpx.Response) -> list[str]:
        return [
            line.strip("+- ")
            for line in answer.json()["diff"].split("\n")
            if line[:1] in ("+", "-") and line[:3] not in ("+++", "---")
        ]

    assert changed(await client.get(path, params={"against": "2"})) == ["one", "two"]
    assert changed(await client.get(path, params={"against": "draft"})) == ["one", "three"]
    assert changed(await client.get(path, params={"against": "1"})) == []
    assert (await client.get(path, params={"against": "9"})).status_code == 404
    assert (await client.get(path, params={"against": "x"})).status_code == 400


# Copies and YAML --------------------------------------------------------------------------------------------------------


async def test_a_copy_has_the_active_configuration_and_a_life_of_its_own(client: httpx.AsyncClient) -> None:
    made = await make(client, system_prompt="one")
    copy = (await client.post(f"/api/agents/{made['agent_id']}/duplicate", json={})).json()
    named = (await client.post(f"/api/agents/{made['agent_id']}/duplicate", json={"name": "Eva"})).json()
    assert (copy["name"], named["name"], copy["config"]["system_prompt"]) == ("Ada (copy)", "Eva", "one")
    await publish(client, copy["agent_id"], system_prompt="two")
    assert (await client.get(f"/api/agents/{made['agent_id']}")).json()["config"]["system_prompt"] == "one"


async def test_a_copy_of_the_longest_name_has_a_name(client: httpx.AsyncClient) -> None:
    made = await make(client, name="n" * 255)
    copy = (await client.post(f"/api/agents/{made['agent_id']}/duplicate", json={})).json()
    assert len(copy["name"]) == 255 and copy["name"].endswith(" (copy)")


async def test_what_is_exported_imports_and_exports_to_the_same_bytes(client: httpx.AsyncClient) -> None:
    config = {
        "name": 'Ä "odd" / name',
        "system_prompt": "  indented\n\nünï ✓ \n trailing \n\n",
        "limits": {"max_steps": 7},
    }
    made = await make(client, **config)
    first = await client.get(f"/api/agents/{made['agent_id']}/export")
    assert first.headers["content-type"] == "text/yaml; charset=utf-8"
    assert "filename*=UTF-8''%C3%84%20%22odd%22%20%2F%20name.yaml" in first.headers["content-disposition"]
    imported = (await client.post("/api/agents/import", json={"yaml": first.text})).json()
    second = await client.get(f"/api/agents/{imported['agent_id']}/export")
    assert second.content == first.content
    assert imported["config"] == made["config"]


async def test_another_version_can_be_exported(client: httpx.AsyncClient) -> None:
    made = await make(client)
    await publish(client, made["agent_id"], name="Eva")
    path = f"/api/agents/{made['agent_id']}/export"
    assert (await client.get(path)).text == "agent:\n  name: Eva\n"
    assert (await client.get(path, params={"version": 1})).text == "agent:\n  name: Ada\n"
    assert (await client.get(path, params={"version": 3})).status_code == 404


async def test_a_yaml_is_checked_without_making_anything(client: httpx.AsyncClient) -> None:
    good = (
        await client.post(
            "/api/agents/validate", json={"yaml": "agent: {name: 'Ada', tools: [sb_files_tool]}"}
        )
    ).json()
    bad = (await client.post("/api/agents/validate", json={"yaml": "agent: {name: Ada, tools: [x]}"})).json()
    assert good["errors"] == [] and good["yaml"] == "agent:\n  name: Ada\n  tools:\n    - file_operations\n"
    assert bad["config"] is None and bad["errors"][0]["line"] == 1 and bad["errors"][0]["column"] == 28
    assert (await client.get("/api/agents")).json()["items"] == []


async def test_the_schema_of_the_yaml_is_published(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/api/agents/schema")).json()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "system_prompt" in schema["$defs"]["AgentConfig"]["properties"]


# Templates, tools, rules ------------------------------------------------------------------------------------------------


async def test_every_template_makes_an_agent_and_the_first_works_without_a_key(
    client: httpx.AsyncClient,
) -> None:
    templates = (await client.get("/api/agents/templates")).json()
    assert len(templates) == len(TEMPLATES) >= 3
    assert templates[0]["config"]["model"] == {
        "provider": "scripted",
        "name": "demo",
        "temperature": None,
        "max_tokens": None,
    }
    for template in templates:
        assert template["prompt"] and template["description"]
        made = await client.post("/api/agents", json={"config": template["config"]})
        assert made.status_code == 201
        assert not [part for part in made.json()["off"] if not part["part"].startswith("tools.")]


async def test_tools_are_listed_with_their_actions_and_what_is_off_says_why(
    client: httpx.AsyncClient,
) -> None:
    tools = {tool["name"]: tool for tool in (await client.get("/api/tools")).json()}
    assert {
        "code_execution",
        "file_operations",
        "web_search",
        "browser",
        "wallet",
        "x402",
        "data_providers",
    } <= tools.keys()
    actions = {action["name"]: action["effect"] for action in tools["code_execution"]["actions"]}
    assert actions["shell"] == "once" and actions["shell_output"] == "read"
    assert all(tool["on"] or tool["reason"] for tool in tools.values())


async def test_always_answers_are_listed_and_forgotten(
    client: httpx.AsyncClient, admin: Any, person: Person
) -> None:
    made = await make(client)
    sql = "INSERT INTO permission_rules (rule_id, account_id, agent_id, action, pattern, decision) VALUES ($1, $2, $3, 'shell', $4, 'allow')"
    for command in ("ls", "pwd"):
        await admin.execute(sql, uuid7(), person.account_id, made["agent_id"], f'{{"command": "{command}"}}')
    path = f"/api/agents/{made['agent_id']}/rules"
    rules = (await client.get(path)).json()["items"]
    assert [rule["pattern"] for rule in rules] == [{"command": "pwd"}, {"command": "ls"}]
    assert (await client.delete(f"{path}/{rules[0]['rule_id']}")).status_code == 204
    assert (await client.delete(f"{path}/{rules[0]['rule_id']}")).status_code == 404
    assert len((await client.get(path)).json()["items"]) == 1
