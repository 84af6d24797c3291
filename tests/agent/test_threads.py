"""Threads in a list: pinned, archived, tagged, deleted and taken back."""

from typing import Any

from tests.client import Product

TALKATIVE: dict[str, Any] = {"tools": []}


async def titles(product: Product, query: str = "") -> list[str]:
    """The titles of a list, page by page."""
    found: list[str] = []
    cursor = ""
    while True:
        page = await product.ask("GET", f"/api/threads?limit=2{query}{cursor}")
        found += [thread["title"] for thread in page["items"]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


async def named(product: Product, *names: str) -> dict[str, str]:
    """Threads with these titles, the last one touched last."""
    agent = await product.agent(**TALKATIVE)
    made = {}
    for name in names:
        made[name] = (await product.ask("POST", "/api/threads", {"agent_id": agent["agent_id"], "title": name}))["thread_id"]
    return made


async def test_pinned_threads_stand_first_and_archived_ones_apart(ada: Product) -> None:
    made = await named(ada, "a", "b", "c", "d", "e")
    for name in ("b", "d"):
        await ada.ask("PATCH", f"/api/threads/{made[name]}", {"pinned": True})
    changed = await ada.ask("PATCH", f"/api/threads/{made['c']}", {"archived": True})
    assert (changed["title"], changed["archived"], changed["pinned"]) == ("c", True, False)
    assert await titles(ada) == ["d", "b", "e", "a"]
    assert await titles(ada, "&archived=true") == ["c"]


async def test_tags_are_kept_once_in_order_and_filter_the_list(ada: Product) -> None:
    made = await named(ada, "a", "b", "c")
    tagged = await ada.ask("PATCH", f"/api/threads/{made['a']}", {"tags": [" work ", "home", "work"]})
    assert tagged["tags"] == ["work", "home"]
    await ada.ask("PATCH", f"/api/threads/{made['b']}", {"tags": ["work"]})
    assert await titles(ada, "&tag=work") == ["b", "a"] and await titles(ada, "&tag=home") == ["a"]
    await ada.ask("PATCH", f"/api/threads/{made['a']}", {"tags": ["x" * 51]}, expect=422)
    assert (await ada.ask("PATCH", f"/api/threads/{made['a']}", {"tags": []}))["tags"] == []


async def test_a_deleted_thread_can_be_taken_back_with_all_it_held(ada: Product) -> None:
    made = await named(ada, "a", "b", "c")
    await ada.say(made["b"], "hello")
    before = await ada.messages(made["b"])
    for name in ("b", "a"):
        await ada.ask("DELETE", f"/api/threads/{made[name]}", expect=204)
    assert await titles(ada) == ["c"] and await titles(ada, "&deleted=true") == ["a", "b"]
    await ada.ask("GET", f"/api/threads/{made['b']}", expect=404)
    assert (await ada.ask("POST", f"/api/threads/{made['b']}/restore"))["deleted_at"] is None
    assert await ada.messages(made["b"]) == before
    await ada.ask("POST", f"/api/threads/{made['b']}/restore", expect=404)
    assert (await ada.say(made["b"], "again"))["status"] == "completed"
