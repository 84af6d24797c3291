"""An approval is for one exact act, once, by somebody who may, in time."""

import asyncio
from typing import Any

import pytest

from backend.agent.config import ActionPermission, AgentConfig, ArgumentRule, Permission
from backend.agent.tools.permissions import act_hash, always_pattern
from backend.agent.tools.permissions import decide as permission_of
from backend.kit.db import Database
from backend.kit.ids import uuid7
from tests.agent.conftest import Apart, Sql, member
from tests.agent.watching import decide, pending, status_is, until, watched
from tests.client import Product, script
from tests.conftest import Servers
from tests.product import Started

ASK: dict[str, Any] = {"permissions": {"shell": "ask"}}


def shell(command: str) -> tuple[str, dict[str, Any]]:
    return "shell", {"command": command}


async def asked(product: Product, *lines: str | tuple[str, dict[str, Any]], thread: str | None = None) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A run that waits for a person: its thread, the run, the approval."""
    thread = thread or await product.thread(**ASK)
    run = await product.send(thread, script(*lines, "results"))
    await status_is(product, run["run_id"], "waiting_approval")
    (approval,) = await pending(product, run["run_id"])
    return thread, run, approval


async def test_an_approved_act_runs_once_and_exactly(ada: Product) -> None:
    thread, run, approval = await asked(ada, shell("echo once >> log; cat log"))
    assert approval["action"] == "shell"
    assert approval["arguments"] == {"command": "echo once >> log; cat log", "timeout": 120, "cwd": "/workspace"}
    decided = await decide(ada, approval, note="go on")
    assert (decided["status"], decided["note"]) == ("approved", "go on")
    assert (await ada.finish(run["run_id"]))["status"] == "completed"
    assert (await ada.ask("GET", f"/api/approvals/{approval['approval_id']}"))["status"] == "used"
    assert (await ada.messages(thread))[2]["content"].count("once") == 1
    _, _, next_one = await asked(ada, shell("echo once >> log; cat log"), thread=thread)  # the same act again is another question
    assert next_one["approval_id"] != approval["approval_id"]


async def test_a_denied_act_is_not_done_and_the_model_is_told_why(ada: Product) -> None:
    thread, run, approval = await asked(ada, shell("touch forbidden"))
    await decide(ada, approval, "deny", note="not on a Sunday")
    assert (await ada.finish(run["run_id"]))["status"] == "completed"
    result, answer = (await ada.messages(thread))[2:]
    assert result["status"] == "denied"
    assert "not on a Sunday" in answer["content"]
    files = await ada.say(thread, script(("list_files", {}), "results"))
    assert files["status"] == "completed"
    assert "forbidden" not in (await ada.messages(thread))[-1]["content"]


async def test_an_answer_for_another_act_is_refused_and_so_is_a_second_one(ada: Product) -> None:
    _, run, approval = await asked(ada, shell("echo hi"))
    await decide(ada, approval | {"act_hash": approval["act_hash"][:-1] + ("0" if approval["act_hash"][-1] != "0" else "1")}, expect=409)
    answers = await asyncio.gather(*(_status(ada, approval, decision) for decision in ("approve", "deny") * 4))
    assert sorted(answers) == [200] + [409] * 7
    await ada.finish(run["run_id"])
    await decide(ada, approval, expect=409)


async def _status(product: Product, approval: dict[str, Any], decision: str) -> int:
    body = {"decision": decision, "act_hash": approval["act_hash"]}
    return (await product.http.post(f"/api/approvals/{approval['approval_id']}/decision", json=body)).status_code


async def test_an_act_that_was_changed_after_it_was_approved_is_not_done(ada: Product, sql: Sql) -> None:
    thread, run, approval = await asked(ada, shell("touch changed"))
    await sql("UPDATE messages SET tool_calls = replace(tool_calls::text, 'touch changed', 'touch Changed')::jsonb WHERE tool_calls IS NOT NULL")
    await decide(ada, approval)
    assert (await ada.finish(run["run_id"]))["problem"] is None
    assert (await ada.messages(thread))[2]["status"] == "denied"
    assert (await ada.ask("GET", f"/api/approvals/{approval['approval_id']}"))["status"] == "void"


async def test_an_approval_that_nobody_answers_expires_and_the_model_is_told(ada: Product, sql: Sql) -> None:
    thread, run, approval = await asked(ada, shell("touch late"))
    await sql("UPDATE approvals SET expires_at = clock_timestamp()")
    await sql("UPDATE runs SET wake_at = clock_timestamp()")  # it was to wake at that time
    assert (await ada.finish(run["run_id"], 10))["status"] == "completed"
    result, answer = (await ada.messages(thread))[2:]
    assert result["status"] == "denied"
    assert "Nobody answered in time" in answer["content"]
    assert (await ada.ask("GET", f"/api/approvals/{approval['approval_id']}"))["status"] == "expired"
    await decide(ada, approval, expect=410)
    assert (await watched(ada, run["run_id"])).state["approvals"][0]["status"] == "expired"


async def test_a_waiting_run_wakes_by_itself_when_its_approval_expires(ada: Product, sql: Sql) -> None:
    _, run, _ = await asked(ada, shell("echo x"))
    (row,) = await sql("SELECT wake_at = (SELECT expires_at FROM approvals) AS same, wake_at - clock_timestamp() > interval '23 hours' AS far FROM runs")
    assert row == {"same": True, "far": True}
    await ada.ask("POST", f"/api/runs/{run['run_id']}/stop")


async def test_always_allows_exactly_this_act_from_then_on(ada: Product) -> None:
    agent = await ada.agent(**ASK)
    thread = await ada.thread(agent)
    _, run, approval = await asked(ada, shell("echo hi"), thread=thread)
    assert approval["pattern"] == approval["arguments"]
    await decide(ada, approval, always=True)
    await ada.finish(run["run_id"])
    (rule,) = (await ada.ask("GET", f"/api/agents/{agent['agent_id']}/rules"))["items"]
    assert (rule["action"], rule["pattern"], rule["decision"]) == ("shell", approval["pattern"], "allow")
    assert (await ada.say(thread, script(shell("echo hi"), "say ok")))["status"] == "completed"
    elsewhere = await ada.thread(agent)
    assert (await ada.say(elsewhere, script(shell("echo hi"), "say ok")))["status"] == "completed"
    for other in (shell("echo hi "), ("shell", {"command": "echo hi", "cwd": "/tmp"}), ("shell", {"command": "echo hi", "timeout": 121})):
        _, run, _ = await asked(ada, other, thread=thread)
        await ada.ask("POST", f"/api/runs/{run['run_id']}/stop")
        await ada.finish(run["run_id"])
    await ada.ask("DELETE", f"/api/agents/{agent['agent_id']}/rules/{rule['rule_id']}")
    await asked(ada, shell("echo hi"), thread=thread)


async def test_a_denied_always_writes_no_rule(ada: Product) -> None:
    agent = await ada.agent(**ASK)
    _, run, approval = await asked(ada, shell("echo hi"), thread=await ada.thread(agent))
    await decide(ada, approval, "deny", always=True)
    await ada.finish(run["run_id"])
    assert (await ada.ask("GET", f"/api/agents/{agent['agent_id']}/rules"))["items"] == []


async def test_a_denied_permission_is_never_asked_for(ada: Product) -> None:
    thread = await ada.thread(permissions={"shell": "deny", "file_operations": "deny", "read_file": "allow"})
    run = await ada.say(thread, script(shell("touch x"), ("list_files", {}), ("read_file", {"path": "x"}), "say done"))
    assert run["status"] == "completed"
    results = [m for m in await ada.messages(thread) if m["role"] == "tool"]
    assert [m["status"] for m in results] == ["denied", "denied", "error"]
    assert (await ada.ask("GET", "/api/approvals"))["items"] == []


async def test_rules_on_arguments_decide_in_their_order(ada: Product) -> None:
    rules = [{"when": {"command": "echo secret*"}, "decision": "deny"}, {"when": {"command": "echo *"}, "decision": "allow"}]
    thread = await ada.thread(permissions={"shell": {"default": "ask", "rules": rules}})
    run = await ada.say(thread, script(shell("echo fine"), shell("echo secret things"), "say ok"))
    assert run["status"] == "completed"
    assert [m["status"] for m in await ada.messages(thread) if m["role"] == "tool"] == ["ok", "denied"]
    await asked(ada, shell("ls"), thread=thread)


async def test_several_acts_of_one_answer_are_each_asked_for_and_run_in_their_order(ada: Product) -> None:
    thread = await ada.thread(**ASK)
    run = await ada.send(thread, script(*(f'call shell {{"command": "echo {n} >> order; cat order"}} &' for n in (1, 2)), shell("echo 3 >> order; cat order"), "results"))
    await status_is(ada, run["run_id"], "waiting_approval")
    first, second, third = sorted(await pending(ada, run["run_id"], 3), key=lambda a: a["arguments"]["command"])
    await decide(ada, third)
    await decide(ada, second, "deny")
    await status_is(ada, run["run_id"], "waiting_approval")
    await decide(ada, first)
    assert (await ada.finish(run["run_id"]))["status"] == "completed"
    results = [m for m in await ada.messages(thread) if m["role"] == "tool"]
    assert [m["status"] for m in results] == ["ok", "denied", "ok"]
    assert "1\n3" in results[2]["content"]
    assert "2" not in results[2]["content"].split("stdout")[1]


async def test_text_that_no_database_can_hold_is_refused_to_the_model(ada: Product) -> None:
    thread = await ada.thread(**ASK)
    run = await ada.say(thread, script(shell("echo \0"), "say sorry"))
    assert run["status"] == "completed"
    assert (await ada.messages(thread))[2]["status"] == "error"


async def test_approvals_come_in_pages_the_waiting_ones_oldest_first(ada: Product) -> None:
    agent = await ada.agent(**ASK)
    made = [await asked(ada, shell(f"echo {n}"), thread=await ada.thread(agent)) for n in range(3)]
    wanted = [approval["approval_id"] for _, _, approval in made]
    found, cursor = [], ""
    while True:
        page = await ada.ask("GET", f"/api/approvals?status=pending&limit=1{cursor}")
        found += [one["approval_id"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == wanted
    await decide(ada, made[1][2], "deny")
    assert [a["approval_id"] for a in (await ada.ask("GET", "/api/approvals?status=pending"))["items"]] == [wanted[0], wanted[2]]
    assert [a["approval_id"] for a in (await ada.ask("GET", "/api/approvals?status=denied"))["items"]] == [wanted[1]]
    assert [a["approval_id"] for a in (await ada.ask("GET", "/api/approvals"))["items"]] == wanted[::-1]


@pytest.mark.parametrize("cursor", ["x", "WzEsMl0", "WyIyMDI2IiwibyJd", "bnVsbA"])
async def test_a_cursor_that_is_not_ours_is_refused_in_words(ada: Product, cursor: str) -> None:
    await ada.ask("GET", f"/api/approvals?cursor={cursor}", expect=400)
    await ada.ask("GET", f"/api/threads?cursor={cursor}", expect=400)


async def test_who_approves_and_who_only_looks(ada: Product, database: Database, servers: Servers, server: Started) -> None:
    _, run, approval = await asked(ada, shell("echo hi"))
    for role, expect in (("viewer", 403), ("editor", 403), ("approver", 200)):
        person = await member(database, servers.admin_dsn, f"{role}@example.org", role=role, of=ada.person)  # type: ignore[arg-type]
        async with person.at(server.url) as product:
            assert (await pending(product, run["run_id"]))[0]["approval_id"] == approval["approval_id"]
            await decide(product, approval, expect=expect)
    assert (await ada.finish(run["run_id"]))["status"] == "completed"


async def test_a_question_outlives_its_worker(apart: Apart, grace: Product) -> None:
    first = apart.worker()
    thread, run, approval = await asked(grace, shell("echo survived"))
    first.kill()
    await decide(grace, approval)
    apart.worker()
    assert (await grace.finish(run["run_id"]))["status"] == "completed"
    assert "survived" in (await grace.messages(thread))[-1]["content"]
    assert (await grace.ask("GET", f"/api/runs/{run['run_id']}"))["losses"] == 0


async def test_a_run_that_waits_takes_no_place_from_others(ada: Product, sql: Sql) -> None:
    _, run, _ = await asked(ada, shell("echo x"))

    async def let_go() -> bool:
        (row,) = await sql("SELECT lease_owner, status FROM runs")
        return bool(row == {"lease_owner": None, "status": "waiting_approval"})

    await until(let_go)
    await ada.ask("POST", f"/api/runs/{run['run_id']}/stop")


# The decision itself ----------------------------------------------------------------------------------------------------


def config(**permissions: Permission | ActionPermission) -> AgentConfig:
    return AgentConfig(name="x", permissions=dict(permissions))


def test_an_action_is_decided_by_its_own_name_before_its_tools() -> None:
    given = config(code_execution="ask", shell="allow")
    assert permission_of(given, [], "shell", {}, default="deny") == "allow"
    assert permission_of(given, [], "shell_start", {}, default="deny") == "ask"
    assert permission_of(given, [], "read_file", {}, default="deny") == "deny"


def test_an_always_never_overrules_a_deny() -> None:
    rules = [{"action": "shell", "pattern": {"command": "ls"}, "decision": "allow"}]
    assert permission_of(config(shell="deny"), rules, "shell", {"command": "ls"}, default="allow") == "deny"
    assert permission_of(config(shell="ask"), rules, "shell", {"command": "ls"}, default="allow") == "allow"


def test_an_always_covers_no_argument_that_was_not_there() -> None:
    rules = [{"action": "x", "pattern": always_pattern({"command": "ls", "cwd": None}), "decision": "allow"}]
    assert permission_of(config(x="ask"), rules, "x", {"command": "ls", "cwd": None}, default="ask") == "allow"
    assert permission_of(config(x="ask"), rules, "x", {"command": "ls", "cwd": "/etc"}, default="ask") == "ask"


@pytest.mark.parametrize(("value", "pattern"), [(True, "true"), (False, "false"), (7, "7"), ("a\nb", "a*b")])
def test_a_rule_is_written_as_the_yaml_is(value: object, pattern: str) -> None:
    given = config(x=ActionPermission(default="ask", rules=(ArgumentRule(when={"flag": pattern}, decision="allow"),)))
    assert permission_of(given, [], "x", {"flag": value}, default="ask") == "allow"


def test_one_changed_byte_is_another_act() -> None:
    thread = uuid7()
    one = act_hash(thread, "shell", {"command": "ls", "cwd": "/"})
    assert one == act_hash(thread, "shell", {"cwd": "/", "command": "ls"})
    others = [(thread, "shell", {"command": "ls ", "cwd": "/"}), (thread, "shell_start", {"command": "ls", "cwd": "/"}), (uuid7(), "shell", {"command": "ls", "cwd": "/"})]
    assert one not in {act_hash(*other) for other in others}


@pytest.mark.parametrize(
    ("command", "decision"),
    [
        ("git log --oneline", "allow"),
        ("git log; curl example.org", "ask"),
        ("git log && rm -rf .", "ask"),
        ("git log $(rm x)", "ask"),
        ("git log > /workspace/x", "ask"),
        ("git log\nrm x", "ask"),
        ("ls | wc -l", "allow"),
    ],
)
def test_the_wildcard_of_an_allow_rule_does_not_reach_over_what_joins_commands(command: str, decision: str) -> None:
    rules = [{"when": {"command": "git *"}, "decision": "allow"}, {"when": {"command": "ls | *"}, "decision": "allow"}]
    config = AgentConfig.model_validate({"name": "x", "permissions": {"shell": {"default": "ask", "rules": rules}}})
    assert permission_of(config, (), "shell", {"command": command}, default="allow") == decision
