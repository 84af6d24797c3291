"""Notifications: what waits or failed is told to everybody in the account, and read by each for himself."""

from typing import Any

from backend.kit.db import Database
from tests.agent.conftest import Apart, Sql, member
from tests.agent.watching import decide, pending, status_is
from tests.client import Product, script

ASK: dict[str, Any] = {"permissions": {"write_file": "ask"}}
WRITE = script(("write_file", {"path": "a.txt", "content": "a"}), "results")
FAIL = script("fail 401")


async def unread(product: Product) -> list[dict[str, Any]]:
    items = (await product.ask("GET", "/api/notifications?unread=true"))["items"]
    count = await product.ask("GET", "/api/notifications/count")
    assert count == {"unread": len(items), "more": False}
    return items  # type: ignore[no-any-return]


async def asked(product: Product, thread: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run that waits for a person, and its approval."""
    run = await product.send(thread, WRITE)
    await status_is(product, run["run_id"], "waiting_approval")
    (approval,) = await pending(product, run["run_id"])
    return run, approval


async def test_an_approval_that_waits_is_told_until_somebody_decides(ada: Product) -> None:
    thread = await ada.thread(**ASK)
    run, approval = await asked(ada, thread)
    (told,) = await unread(ada)
    assert (told["kind"], told["title"]) == ("approval.waiting", "write_file")
    assert (told["thread_id"], told["run_id"], told["approval_id"]) == (thread, run["run_id"], approval["approval_id"])
    assert told["thread_number"] == 1 and told["thread_title"] and not told["read"] and told["resolved_at"] is None
    await decide(ada, approval)
    assert await unread(ada) == []
    await ada.finish(run["run_id"])
    (kept,) = (await ada.ask("GET", "/api/notifications"))["items"]
    assert kept["notification_id"] == told["notification_id"] and kept["resolved_at"] is not None


async def test_stopping_a_run_resolves_what_it_asked_and_is_no_news_itself(ada: Product) -> None:
    run, _ = await asked(ada, await ada.thread(**ASK))
    assert len(await unread(ada)) == 1
    await ada.ask("POST", f"/api/runs/{run['run_id']}/stop")
    assert (await ada.finish(run["run_id"]))["status"] == "stopped"
    assert await unread(ada) == []


async def test_a_failed_run_and_one_that_reached_a_limit_are_told_and_a_good_one_is_not(ada: Product) -> None:
    await ada.say(await ada.thread(), script("say fine"))
    assert await unread(ada) == []
    failed = await ada.say(await ada.thread(), FAIL)
    limited = await ada.say(await ada.thread(limits={"max_steps": 1}), script(("list_files", {}), "results"))
    assert (failed["status"], limited["status"]) == ("failed", "failed")
    second, first = await unread(ada)
    assert (first["kind"], first["run_id"], first["title"]) == ("run.failed", failed["run_id"], failed["problem"]["title"])
    assert (second["kind"], second["run_id"], second["detail"]) == ("run.limit", limited["run_id"], limited["problem"]["detail"])


async def test_each_person_reads_for_himself(apart: Apart, apart_database: Database, grace: Product) -> None:
    apart.worker()
    thread = await grace.thread()
    for _ in range(3):
        await grace.say(thread, FAIL)
    person = await member(apart_database, apart.servers.admin_dsn, "hopper@example.org", role="viewer", of=grace.person)
    async with person.at(apart.api.url) as other:
        newest = (await unread(grace))[0]["notification_id"]
        for _ in range(2):
            await grace.ask("POST", f"/api/notifications/{newest}/read", expect=204)
        assert len(await unread(grace)) == 2 and len(await unread(other)) == 3
        assert await other.ask("POST", "/api/notifications/read-all") == {"marked": 3}
        assert await other.ask("POST", "/api/notifications/read-all") == {"marked": 0}
        assert len(await unread(grace)) == 2 and await unread(other) == []
        page = await other.ask("GET", "/api/notifications?limit=2")
        rest = await other.ask("GET", f"/api/notifications?limit=2&cursor={page['next_cursor']}")
        assert [item["read"] for item in page["items"] + rest["items"]] == [True] * 3 and rest["next_cursor"] is None
        await grace.ask("DELETE", f"/api/threads/{thread}", expect=204)
        assert await unread(grace) == [] and (await other.ask("GET", "/api/notifications"))["items"] == []


async def test_old_news_is_forgotten(apart: Apart, grace: Product, apart_sql: Sql) -> None:
    first = apart.worker()
    thread = await grace.thread()
    await grace.say(thread, FAIL)
    await grace.say(thread, FAIL)
    hook = await grace.ask("POST", "/api/webhooks", {"url": "https://example.org/", "events": ["run.finished"]}, expect=201)
    first.kill()
    await apart_sql(
        """INSERT INTO webhook_deliveries (delivery_id, account_id, webhook_id, event, body, status, created_at)
        SELECT new_uuid7(), account_id, webhook_id, 'run.finished', '{}', status, now() - interval '31 days'
        FROM webhooks, (VALUES ('failed'), ('delivered')) AS s(status) WHERE webhook_id = $1""",
        hook["webhook_id"],
    )
    await apart_sql("UPDATE notifications SET created_at = now() - interval '91 days' WHERE created_at = (SELECT min(created_at) FROM notifications)")
    await apart_sql("SELECT forget_old_news()")
    assert await apart_sql("SELECT 1 FROM webhook_deliveries") == []
    assert len((await grace.ask("GET", "/api/notifications"))["items"]) == 1
