"""Search: what was said is found by its words, newest first, by the account that it belongs to alone."""

from typing import Any
from uuid import UUID, uuid4

from backend.kit.db import Database
from tests.agent.conftest import Sql, member
from tests.client import Product, owner
from tests.conftest import Servers
from tests.product import Started

TALKATIVE: dict[str, Any] = {"tools": []}
_SAY = """
    INSERT INTO messages (message_id, thread_id, account_id, seq, role, content, created_at)
    SELECT gen_random_uuid(), $1, account_id, n, CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END, text, now() + n * interval '1 ms'
    FROM threads, unnest($2::text[]) WITH ORDINALITY AS said (text, n) WHERE thread_id = $1"""


async def found(product: Product, q: str, **more: Any) -> list[str]:
    """What a search finds, page by page: the pieces, with [ ] around what matches."""
    texts: list[str] = []
    params: dict[str, Any] = {"q": q} | more
    while True:
        page = (await product.http.get("/api/threads/search", params=params)).raise_for_status().json()
        texts += ["".join(f"[{part['text']}]" if part["match"] else part["text"] for part in hit["parts"]) for hit in page["items"]]
        if page["next_cursor"] is None:
            return texts
        params["cursor"] = page["next_cursor"]


async def test_words_phrases_beginnings_and_exclusions_find_what_was_said(ada: Product, sql: Sql) -> None:
    thread = UUID(await ada.thread(**TALKATIVE))
    await sql(_SAY, thread, ["a red fox jumps", "the fox is red", "Büroklammern in Blau", "nothing <b>here</b>", "a red fo\ue000x again"])
    assert await found(ada, "fox red") == ["the [fox] is [red]", "a [red] [fox] jumps"]
    assert await found(ada, '"red fox"') == ["a [red] [fox] jumps"]
    assert await found(ada, "red -jumps -again") == ["the fox is [red]"]
    assert await found(ada, "jum") == ["a red fox [jumps]"] and await found(ada, "büroklam") == ["[Büroklammern] in Blau"]
    assert await found(ada, "jumps or blau") == ["Büroklammern in [Blau]", "a red fox [jumps]"]
    assert await found(ada, "here") == ["nothing  [here] "]  # marks of HTML are left out
    for nothing in ("", "'", '"', "&|!():*", "fo", "\\", "zebra", "%", "red & !fox:*", "x" * 300):
        assert all("[" in text for text in await found(ada, nothing)), nothing


async def test_pages_go_on_where_the_last_one_ended_and_filters_hold(ada: Product, sql: Sql) -> None:
    agent = await ada.agent(**TALKATIVE)
    one, two = UUID(await ada.thread(agent)), UUID(await ada.thread(name="Other", **TALKATIVE))
    await sql(_SAY, one, [f"common word {n}" for n in range(45)])
    await sql(_SAY, two, ["common other"])
    assert await found(ada, "common word", limit=7) == [f"[common] [word] {n}" for n in reversed(range(45))]
    assert await found(ada, "common other", agent_id=agent["agent_id"]) == []
    assert len(await found(ada, "common", agent_id=agent["agent_id"])) == 45
    await ada.ask("PATCH", f"/api/threads/{two}", {"tags": ["mine"], "archived": True})
    assert await found(ada, "common", tag="mine") == ["[common] other"]
    await ada.ask("DELETE", f"/api/threads/{two}")
    assert await found(ada, "other") == []
    await ada.ask("POST", f"/api/threads/{two}/restore")
    assert await found(ada, "other") == ["common [other]"]


async def test_nobody_finds_what_another_account_said(ada: Product, server: Started, database: Database, servers: Servers, sql: Sql) -> None:
    await sql(_SAY, UUID(await ada.thread(**TALKATIVE)), ["hers alone"])
    bob = await member(database, servers.admin_dsn, "bob@example.org")
    async with bob.at(server.url) as product:
        assert await found(product, "hers") == []
    async with database.transaction(None) as session:
        assert await session.fetch("SELECT * FROM search_messages('hers'::tsquery, NULL, NULL, NULL, NULL, 10)") == []


async def test_a_rare_word_is_read_from_the_index_and_a_common_one_from_the_newest_messages(database: Database, servers: Servers, sql: Sql) -> None:
    ada = await owner(database)
    agent, thread = uuid4(), uuid4()
    await sql("INSERT INTO agents (agent_id, account_id, name) VALUES ($1, $2, 'A')", agent, ada.account_id)
    await sql("INSERT INTO threads (thread_id, agent_id, account_id, number) VALUES ($1, $2, $3, 1)", thread, agent, ada.account_id)
    await sql(_SAY, thread, [f"message {n} about nothing" for n in range(12_000)] + ["needle"] + [f"and more {n}" for n in range(11_000)])
    await sql("ANALYZE messages")
    async with database.transaction(ada.account_id) as session:
        assert len(await session.fetch("SELECT * FROM search_messages('needle'::tsquery, NULL, NULL, NULL, NULL, 10)")) == 1
        scans = "SELECT pg_stat_get_xact_numscans($1::text::regclass)"

        async def looked() -> tuple[int, int]:
            return await session.value(scans, "messages_search"), await session.value(scans, "messages")

        rare = await looked()
        assert rare == (1, 0)
        assert len(await session.fetch("SELECT * FROM search_messages('more'::tsquery, NULL, NULL, NULL, NULL, 10)")) == 10
        assert await looked() == rare
