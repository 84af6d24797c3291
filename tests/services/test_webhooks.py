"""Webhooks: what happens reaches whoever was named for it, signed, at least once, and nobody else."""

from datetime import datetime
from typing import Any

import pytest

from backend.kit.db import Database
from backend.services.webhooks.courier import WAITS
from tests.agent.conftest import Apart, Sql, member
from tests.agent.watching import decide, pending, status_is
from tests.client import Product, script
from tests.services.hooks import arrived, courier, delivery, later, listen, target
from tests.wire.server import Reply, refusal
from tests.wire.webhook_server import WebhookServer

ASK: dict[str, Any] = {"permissions": {"write_file": "ask"}}
SAY = script("say hello")


async def test_a_run_and_its_approval_are_announced_and_signed(apart: Apart, grace: Product, receiver: WebhookServer) -> None:
    courier(apart, receiver)
    await listen(grace, receiver)
    thread = await grace.thread(**ASK)
    run = await grace.send(thread, script(("write_file", {"path": "a.txt", "content": "a"}), "results"))
    await status_is(grace, run["run_id"], "waiting_approval")
    (asked,) = await arrived(receiver, 1)
    (approval,) = await pending(grace, run["run_id"])
    assert asked["type"] == "approval.requested"
    assert asked["data"]["approval_id"] == approval["approval_id"] and asked["data"]["action"] == "write_file"
    assert "arguments" not in asked["data"]
    await decide(grace, approval, "deny")
    ended = await grace.finish(run["run_id"])
    events = {event["type"]: event["data"] for event in await arrived(receiver, 3)}
    assert events["approval.decided"]["status"] == "denied"
    finished = events["run.finished"]
    assert (finished["run_id"], finished["thread_id"], finished["status"]) == (run["run_id"], thread, "completed")
    assert (finished["steps"], finished["output_tokens"]) == (ended["steps"], ended["output_tokens"])
    assert receiver.refused == [] and len({event["id"] for event in receiver.sent}) == 3


async def test_who_has_no_webhook_for_an_event_has_no_delivery(apart: Apart, grace: Product, receiver: WebhookServer, apart_sql: Sql) -> None:
    courier(apart, receiver)
    await listen(grace, receiver, ["approval.requested"])
    off = await listen(grace, receiver, ["run.finished"])
    await grace.ask("PATCH", f"/api/webhooks/{off['webhook_id']}", {"active": False})
    await grace.say(await grace.thread(), SAY)
    assert await apart_sql("SELECT 1 FROM webhook_deliveries") == []


async def test_what_fails_is_tried_again_under_the_same_id_with_growing_waits(
    apart: Apart, grace: Product, receiver: WebhookServer, apart_sql: Sql
) -> None:
    courier(apart, receiver)
    hook = await listen(grace, receiver)
    receiver.play(refusal(500, {"error": "not now"}), Reply([], ending="drop"), refusal(503, {}))
    await grace.say(await grace.thread(), SAY)
    for attempt in (1, 2, 3):
        failed = await delivery(grace, hook, attempts=attempt, status="pending", answer_status=[500, None, 503][attempt - 1])
        moments = [datetime.fromisoformat(failed[name]) for name in ("tried_at", "next_attempt_at")]
        wait = WAITS[attempt - 1].total_seconds()
        assert wait <= (moments[1] - moments[0]).total_seconds() < wait + 5
        if attempt == 1:
            assert (failed["answer"], failed["error"]) == ('{"error": "not now"}', "The receiver answered 500.")
        await later(apart_sql)
    done = await delivery(grace, hook, attempts=4, status="delivered", answer_status=200, answer="thanks", error="")
    assert done["next_attempt_at"] is None
    assert [event["id"] for event in receiver.sent] == [done["delivery_id"]] * 4 and receiver.refused == []
    assert (await grace.ask("GET", f"/api/webhooks/{hook['webhook_id']}"))["failing_since"] is None


async def test_after_the_last_wait_it_is_given_up_and_can_be_sent_again(apart: Apart, grace: Product, receiver: WebhookServer, apart_sql: Sql) -> None:
    courier(apart, receiver)
    hook = await listen(grace, receiver)
    receiver.play(*[refusal(500, {})] * (len(WAITS) + 1))
    await grace.say(await grace.thread(), SAY)
    await delivery(grace, hook, attempts=1, answer_status=500)
    await apart_sql("UPDATE webhook_deliveries SET attempts = $1, due_at = clock_timestamp()", len(WAITS))
    given_up = await delivery(grace, hook, attempts=len(WAITS) + 1, status="failed")
    receiver.replies.clear()
    path = f"/api/webhooks/{hook['webhook_id']}/deliveries/{given_up['delivery_id']}"
    await grace.ask("POST", f"{path}/replay", expect=202)
    again = await delivery(grace, hook, status="delivered", attempts=1)
    assert receiver.sent[-1]["id"] == given_up["delivery_id"] == again["delivery_id"]
    assert receiver.sent[-1] == receiver.sent[0]
    assert (await grace.ask("GET", path))["body"].startswith("{")


async def test_a_receiver_that_says_nothing_is_not_waited_for(apart: Apart, grace: Product, receiver: WebhookServer) -> None:
    courier(apart, receiver, VIBE_WEBHOOK_SECONDS="0.3")
    hook = await listen(grace, receiver)
    receiver.play(Reply([b"x"], ending="hang"))
    await grace.say(await grace.thread(), SAY)
    failed = await delivery(grace, hook, attempts=1, status="pending", answer_status=None, error="There was no answer within 0.3 seconds.")
    assert 300 <= failed["took_ms"] < 5000


async def test_a_redirect_is_not_followed_not_even_to_where_it_might(apart: Apart, grace: Product, receiver: WebhookServer) -> None:
    courier(apart, receiver)
    hook = await listen(grace, receiver)
    receiver.play(Reply([], 307, headers={"Location": f"{receiver.url}/private"}))
    await grace.say(await grace.thread(), SAY)
    failed = await delivery(grace, hook, attempts=1, answer_status=307)
    assert "redirects" in failed["error"] and receiver.private_calls == 0


async def test_a_name_that_stands_for_a_private_address_is_not_reached(apart: Apart, grace: Product, receiver: WebhookServer) -> None:
    apart.worker()
    hook = await listen(grace, receiver)  # saved, for a name is looked up only now
    await grace.say(await grace.thread(), SAY)
    failed = await delivery(grace, hook, attempts=1, answer_status=None)
    assert "not on the public internet" in failed["error"]
    assert receiver.sent == []


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://[::1]/x", "http://2130706433/", "ftp://example.org/", "https://a:b@example.org/", "http://169.254.169.254/latest"]
)
async def test_an_address_that_must_not_be_reached_is_refused(grace: Product, url: str) -> None:
    refused = await grace.ask("POST", "/api/webhooks", {"url": url, "events": ["run.finished"]}, expect=400)
    assert "Events cannot be sent there" in refused["detail"]


async def test_a_killed_worker_takes_no_delivery_with_it(apart: Apart, grace: Product, receiver: WebhookServer, apart_sql: Sql) -> None:
    worker = courier(apart, receiver)
    hook = await listen(grace, receiver)
    receiver.play(Reply([], ending="hang"))
    await grace.say(await grace.thread(), SAY)
    await arrived(receiver, 1)
    under_way = await delivery(grace, hook, attempts=1, status="pending")
    await grace.ask("POST", f"/api/webhooks/{hook['webhook_id']}/deliveries/{under_way['delivery_id']}/replay", expect=409)
    worker.kill()
    await later(apart_sql)
    courier(apart, receiver)
    done = await delivery(grace, hook, status="delivered", attempts=2)
    assert [event["id"] for event in receiver.sent] == [done["delivery_id"]] * 2


async def test_a_slow_receiver_takes_nobodys_place(apart: Apart, grace: Product, receiver: WebhookServer, apart_sql: Sql) -> None:
    with WebhookServer() as slow:
        apart.worker(VIBE_PRIVATE_TARGETS=f"{target(receiver)},{target(slow)}")
        hook = await listen(grace, slow)
        slow.play(*[Reply([], ending="hang")] * 200)
        await apart_sql(
            """INSERT INTO webhook_deliveries (delivery_id, account_id, webhook_id, event, body)
            SELECT new_uuid7(), account_id, webhook_id, 'run.finished', event_body('run.finished', '{}') FROM webhooks, generate_series(1, 200)
            WHERE webhook_id = $1""",
            hook["webhook_id"],
        )
        await arrived(slow, 4)
        other = await listen(grace, receiver)
        await grace.ask("POST", f"/api/webhooks/{other['webhook_id']}/test", expect=202)
        await delivery(grace, other, status="delivered")
        assert len(slow.sent) == 4


async def test_a_webhook_that_failed_for_days_is_turned_off_and_people_are_told(
    apart: Apart, grace: Product, receiver: WebhookServer, apart_sql: Sql
) -> None:
    courier(apart, receiver)
    hook = await listen(grace, receiver)
    thread = await grace.thread()
    receiver.play(refusal(500, {}), refusal(500, {}))
    await grace.say(thread, SAY)
    await delivery(grace, hook, attempts=1, answer_status=500)
    path = f"/api/webhooks/{hook['webhook_id']}"
    assert (await grace.ask("GET", path))["failing_since"] is not None
    await apart_sql("UPDATE webhooks SET failing_since = failing_since - interval '5 days'")
    await later(apart_sql)
    failed = await delivery(grace, hook, status="failed")
    assert failed["error"] == "The webhook was turned off."
    off = await grace.ask("GET", path)
    assert not off["active"] and off["disabled_at"] and "5 days" in off["disabled_reason"]
    told = await apart_sql("SELECT kind, resolved_at FROM notifications WHERE webhook_id = $1", hook["webhook_id"])
    assert told == [{"kind": "webhook.disabled", "resolved_at": None}]
    on = await grace.ask("PATCH", path, {"active": True})
    assert on["active"] and on["disabled_at"] is None and on["failing_since"] is None
    assert (await apart_sql("SELECT resolved_at FROM notifications"))[0]["resolved_at"] is not None


async def test_a_receiver_that_is_gone_is_asked_once(apart: Apart, grace: Product, receiver: WebhookServer) -> None:
    courier(apart, receiver)
    hook = await listen(grace, receiver)
    receiver.play(refusal(410, {}))
    await grace.say(await grace.thread(), SAY)
    await delivery(grace, hook, status="failed", answer_status=410)
    assert not (await grace.ask("GET", f"/api/webhooks/{hook['webhook_id']}"))["active"]


async def test_a_test_is_sent_once_and_a_new_secret_leaves_a_day_for_the_old_one(
    apart: Apart, grace: Product, receiver: WebhookServer, apart_sql: Sql
) -> None:
    courier(apart, receiver)
    hook = await listen(grace, receiver)
    path = f"/api/webhooks/{hook['webhook_id']}"
    receiver.play(refusal(500, {}))
    await grace.ask("POST", f"{path}/test", expect=202)
    await delivery(grace, hook, status="failed", attempts=1, event="webhook.test")
    renewed = await grace.ask("POST", f"{path}/secret")
    assert renewed["secret"] != hook["secret"]
    for secret in (hook["secret"], renewed["secret"]):
        receiver.secret = secret
        tried = await grace.ask("POST", f"{path}/test", expect=202)
        await delivery(grace, hook, delivery_id=tried["delivery_id"], status="delivered")
    await apart_sql("UPDATE webhooks SET before_until = now()")
    receiver.secret = hook["secret"]
    tried = await grace.ask("POST", f"{path}/test", expect=202)
    refused = await delivery(grace, hook, delivery_id=tried["delivery_id"], status="failed")
    assert refused["answer_status"] == 401


async def test_the_secret_is_shown_when_it_is_made_and_stored_sealed(grace: Product, apart_sql: Sql) -> None:
    body = {"url": "https://example.org/hook#x", "events": ["run.finished", "run.finished"], "description": "ours"}
    headers = {"Idempotency-Key": "one"}
    first = await grace.http.post("/api/webhooks", json=body, headers=headers)
    again = await grace.http.post("/api/webhooks", json=body, headers=headers)
    assert first.status_code == 201 and again.json() == first.json()
    made = first.json()
    assert made["secret"].startswith("whsec_") and made["events"] == ["run.finished"] and made["url"] == "https://example.org/hook"
    other = await grace.http.post("/api/webhooks", json=body | {"url": "https://example.org/b"}, headers=headers)
    assert other.status_code == 409
    read = await grace.http.get(f"/api/webhooks/{made['webhook_id']}")
    listed = await grace.ask("GET", "/api/webhooks")
    assert [item["webhook_id"] for item in listed["items"]] == [made["webhook_id"]]
    assert made["secret"] not in read.text and made["secret"] not in str(listed)
    (row,) = await apart_sql("SELECT sealed FROM webhooks")
    assert made["secret"].encode() not in row["sealed"]
    acts = await apart_sql("SELECT act FROM audit_log WHERE object = $1", made["webhook_id"])
    assert acts == [{"act": "webhook.created"}]
    await grace.ask("DELETE", f"/api/webhooks/{made['webhook_id']}", expect=204)
    await grace.ask("GET", f"/api/webhooks/{made['webhook_id']}", expect=404)


async def test_an_account_has_twenty_webhooks_at_most(grace: Product) -> None:
    for number in range(20):
        await grace.ask("POST", "/api/webhooks", {"url": f"https://example.org/{number}", "events": ["run.finished"]}, expect=201)
    await grace.ask("POST", "/api/webhooks", {"url": "https://example.org/more", "events": ["run.finished"]}, expect=409)
    page = await grace.ask("GET", "/api/webhooks?limit=15")
    rest = await grace.ask("GET", f"/api/webhooks?limit=15&cursor={page['next_cursor']}")
    assert len({item["webhook_id"] for item in page["items"] + rest["items"]}) == 20 and rest["next_cursor"] is None


async def test_only_who_manages_the_account_makes_webhooks(apart: Apart, apart_database: Database, grace: Product) -> None:
    for role, reads in (("editor", 200), ("approver", 403), ("viewer", 403)):
        person = await member(apart_database, apart.servers.admin_dsn, f"{role}@example.org", role=role, of=grace.person)  # type: ignore[arg-type]
        async with person.at(apart.api.url) as product:
            await product.ask("POST", "/api/webhooks", {"url": "https://example.org/", "events": ["run.finished"]}, expect=403)
            await product.ask("GET", "/api/webhooks", expect=reads)
