"""Attachments: kept once by content, typed by their bytes, brought into the workspace, told to the model, gone when nobody names them."""

import hashlib
import os
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from backend.kit.db import Database
from backend.services.attachments import service
from backend.services.attachments.blobs import Blobs
from tests.agent.conftest import Sql
from tests.client import Product, owner, script
from tests.conftest import Servers
from tests.people import add_person, signed_in
from tests.product import Spawn, Started

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
DAY = 86_400


async def upload(product: Product, data: bytes, name: str = "notes.txt", claimed: str = "application/octet-stream", **headers: str) -> dict[str, Any]:
    answer = await product.http.post("/api/attachments", content=data, params={"name": name}, headers={"Content-Type": claimed, **headers})
    assert answer.status_code == 201, answer.text
    return answer.json()  # type: ignore[no-any-return]


async def read(product: Product, made: dict[str, Any], **headers: str) -> httpx.Response:
    return await product.http.get(f"/api/attachments/{made['attachment_id']}", headers=headers)


def blob(servers: Servers, data: bytes) -> Path:
    return Blobs(servers.data_dir).path(hashlib.sha256(data).digest())


async def sent(product: Product, thread: str, text: str, *files: dict[str, Any], expect: int = 202) -> dict[str, Any]:
    body = {"message": {"message_id": str(uuid4()), "content": text, "attachments": [file["attachment_id"] for file in files]}}
    return await product.ask("POST", f"/api/threads/{thread}/runs", body, expect=expect)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("data", "name", "claimed", "kind"),
    [
        (PNG, "a.html", "text/html", "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "a.jpg", "", "image/jpeg"),
        (b"GIF89a" + bytes(20), "a.gif", "", "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "a.webp", "", "image/webp"),
        (b"%PDF-1.7\n", "a.pdf", "", "application/pdf"),
        (b"PK\x03\x04" + bytes(20), "a.docx", "", "application/zip"),
        ("Grüße\n".encode(), "a.txt", "image/png", "text/plain"),
        (b"a,b\n1,2\n", "a.csv", "", "text/csv"),
        (b'{"a": 1}', "a.json", "", "application/json"),
        (b"# Title\n", "a.md", "", "text/markdown"),
        (b"<!DOCTYPE html><script>alert(1)</script>", "a.txt", "text/plain", "application/octet-stream"),
        (b"\xef\xbb\xbf  <svg onload='x'>", "a.png", "image/png", "application/octet-stream"),
        (b"<?xml version='1.0'?><svg/>", "a.txt", "", "application/octet-stream"),
        (b"\x7fELF" + bytes(20), "a.txt", "text/plain", "application/octet-stream"),
        (b"MZ text all the way", "a.txt", "text/plain", "application/octet-stream"),
        (b"text\0text", "a.txt", "text/plain", "application/octet-stream"),
        (b"cut in the middle \xc3", "a.txt", "text/plain", "application/octet-stream"),
    ],
)
async def test_a_file_is_what_its_bytes_are_and_only_pictures_are_shown_in_place(ada: Product, data: bytes, name: str, claimed: str, kind: str) -> None:
    made = await upload(ada, data, name, claimed or "application/x-unknown")
    assert (made["media_type"], made["size"], made["name"]) == (kind, len(data), name)
    answer = await read(ada, made)
    assert answer.content == data and answer.headers["content-type"].partition(";")[0] == kind
    assert answer.headers["content-disposition"].startswith("inline" if kind.startswith("image/") else "attachment")
    assert answer.headers["x-content-type-options"] == "nosniff" and "sandbox" in answer.headers["content-security-policy"]
    again = await read(ada, made, **{"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_the_same_content_lies_on_disk_once_for_its_owner_alone(ada: Product, servers: Servers) -> None:
    data = os.urandom(2_500_000)
    first, second = await upload(ada, data, "a.bin"), await upload(ada, data, "../../etc/b\u202e.bin")
    assert first["attachment_id"] != second["attachment_id"] and second["name"] == "b_.bin"
    path = blob(servers, data)
    assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parents[1].stat().st_mode) == 0o700
    assert list((servers.data_dir / "blobs" / "incoming").iterdir()) == []
    assert (await read(ada, second)).content == data


async def test_uploading_twice_under_one_key_makes_one(ada: Product, sql: Sql) -> None:
    key = {"Idempotency-Key": "k"}
    first = await upload(ada, b"once", **key)
    assert await upload(ada, b"once", **key) == first
    other = await ada.http.post("/api/attachments", content=b"other", headers=key)
    assert other.status_code == 409
    assert len(await sql("SELECT 1 FROM attachments")) == 1


async def test_what_is_too_large_empty_or_broken_off_leaves_nothing(database: Database, servers: Servers, spawn: Spawn) -> None:
    api, person = spawn.api(VIBE_MAX_ATTACHMENT_MB="1"), await owner(database)
    async with person.at(api.url) as product:

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield bytes(50_000)

        assert (await product.http.post("/api/attachments", content=bytes(1_000_001))).status_code == 413
        assert (await product.http.post("/api/attachments", content=endless())).status_code == 413
        assert (await product.http.post("/api/attachments", content=b"")).status_code == 400
        assert (await product.http.post("/api/attachments", content=bytes(1_000_000))).status_code == 201
    assert list((servers.data_dir / "blobs" / "incoming").iterdir()) == []


async def test_a_nearly_full_disk_takes_no_file(database: Database, spawn: Spawn) -> None:
    api, person = spawn.api(VIBE_MIN_FREE_MB="1000000000"), await owner(database)
    async with person.at(api.url) as product:
        assert (await product.http.post("/api/attachments", content=b"a")).status_code == 507


async def test_a_browser_uploads_from_the_products_own_pages_only(server: Started, servers: Servers, clean: None) -> None:
    person = await add_person(servers.admin_dsn)
    async with signed_in(server.url, person) as client:
        headers = {"Content-Type": "image/png"}
        assert (await client.post("/api/attachments", content=PNG, headers=headers)).status_code == 201
        foreign = await client.post("/api/attachments", content=PNG, headers=headers | {"Sec-Fetch-Site": "cross-site"})
        assert foreign.status_code == 403
        assert (await client.post("/api/agents", content=b"{}", headers=headers)).status_code == 415


async def test_a_message_shows_its_files_and_the_model_is_told_and_finds_them(ada: Product, sql: Sql) -> None:
    text, picture, twin = await upload(ada, b"the word is plover\n"), await upload(ada, PNG, "map.png"), await upload(ada, b"another\n")
    thread = await ada.thread()
    run = await sent(ada, thread, script(("shell", {"command": "cat attachments/notes.txt; ls attachments"}), "results"), text, picture, twin)
    assert (await ada.finish(run["run_id"]))["status"] == "completed"
    question, _, result, _ = await ada.messages(thread)
    second = f"{twin['attachment_id'][-8:]}-notes.txt"
    assert [(file["name"], file["path"]) for file in question["attachments"]] == [
        ("notes.txt", "attachments/notes.txt"),
        ("map.png", "attachments/map.png"),
        ("notes.txt", f"attachments/{second}"),
    ]
    assert question["tool_name"] is None and "plover" not in question["content"] and "plover" in result["content"]
    assert "map.png" in result["content"] and second in result["content"]
    assert set(question["attachments"][1]) == {"attachment_id", "name", "media_type", "size", "path"}
    events = [event async for _, event in ada.events(run["run_id"])]
    assert events[0]["messages"][0]["attachments"] == question["attachments"]
    (counted,) = await sql("SELECT tokens, tokens_upto FROM messages WHERE role = 'user'")
    assert counted["tokens"] == counted["tokens_upto"] > len(question["content"]) / 4 + 50


async def test_what_is_told_of_files_is_the_same_in_every_later_turn(ada: Product, sql: Sql) -> None:
    thread = await ada.thread(tools=[])
    plain = (await ada.say(thread, script("say hello")))["run_id"]
    file = await upload(ada, b"x" * 4_000)
    run = await sent(ada, thread, script("say fine"), file)
    await ada.finish(run["run_id"])
    last = (await ada.say(thread, script("say bye")))["run_id"]

    async def messages_part(run_id: str) -> int:
        (step,) = await ada.ask("GET", f"/api/runs/{run_id}/steps")
        return next(part["tokens"] for part in step["detail"]["context"]["parts"] if part["name"] == "messages")  # type: ignore[no-any-return]

    before, with_file, after = [await messages_part(id) for id in (plain, run["run_id"], last)]
    assert with_file - before > 900 and after > with_file


async def test_a_file_that_is_not_there_or_not_ones_own_is_not_sent(ada: Product, database: Database, servers: Servers, server: Started) -> None:
    thread = await ada.thread()
    await sent(ada, thread, "hello", {"attachment_id": str(uuid4())}, expect=404)
    assert await ada.messages(thread) == []
    other = await add_person(servers.admin_dsn, "bob@example.org")
    async with signed_in(server.url, other) as client:
        foreign = (await client.post("/api/attachments", content=b"mine", headers={"Content-Type": "text/plain"})).json()
    await sent(ada, thread, "hello", foreign, expect=404)


async def test_sending_the_same_message_again_brings_nothing_more(ada: Product, sql: Sql) -> None:
    thread, first, second = await ada.thread(), await upload(ada, b"a"), await upload(ada, b"b")
    body = {"message": {"message_id": str(uuid4()), "content": script("say a"), "attachments": [first["attachment_id"]]}}
    run = await ada.ask("POST", f"/api/threads/{thread}/runs", body)
    body["message"]["attachments"] = [first["attachment_id"], second["attachment_id"]]
    assert (await ada.ask("POST", f"/api/threads/{thread}/runs", body))["run_id"] == run["run_id"]
    assert len(await sql("SELECT 1 FROM message_attachments")) == 1


async def test_a_fork_has_the_files_of_its_messages(ada: Product) -> None:
    thread = await ada.thread()
    run = await sent(ada, thread, script("say a"), await upload(ada, b"a", "a.txt"))
    await ada.finish(run["run_id"])
    question, answer = await ada.messages(thread)
    fork = await ada.ask("POST", f"/api/threads/{thread}/fork", {"message_id": answer["message_id"]})
    copied, _ = await ada.messages(fork["thread_id"])
    assert copied["message_id"] != question["message_id"] and copied["attachments"] == question["attachments"] != []


async def test_only_what_nobody_names_for_a_day_is_removed(ada: Product, database: Database, servers: Servers, sql: Sql) -> None:
    kept, loose, young, twice = b"kept " + os.urandom(8), b"loose " + os.urandom(8), b"young " + os.urandom(8), b"twice " + os.urandom(8)
    thread = await ada.thread()
    run = await sent(ada, thread, script("say a"), await upload(ada, kept, "a"), await upload(ada, twice, "b"))
    await ada.finish(run["run_id"])
    for data in (loose, young, twice):
        await upload(ada, data, "c")
    blobs = Blobs(servers.data_dir)

    def grow_old(*contents: bytes) -> None:
        for data in contents:
            os.utime(blob(servers, data), (time.time() - DAY - 60,) * 2)

    grow_old(kept, loose, twice)
    await sql("UPDATE attachments SET created_at = now() - interval '25 hours'")
    assert await service.tidy(database, blobs) == 1
    assert [blob(servers, data).exists() for data in (kept, loose, young, twice)] == [True, False, True, True]
    assert len(await sql("SELECT 1 FROM attachments")) == 2
    await ada.ask("DELETE", f"/api/threads/{thread}", expect=204)
    await service.tidy(database, blobs)
    assert blob(servers, kept).exists()  # the thread can still be restored
    await sql("UPDATE threads SET deleted_at = now() - interval '8 days'")
    assert await service.tidy(database, blobs) == 2
    assert not blob(servers, kept).exists() and await sql("SELECT 1 FROM message_attachments") == []


async def test_a_content_that_the_disk_has_lost_is_said_to_be_gone(ada: Product, servers: Servers) -> None:
    data = os.urandom(20)
    made = await upload(ada, data)
    blob(servers, data).unlink()
    assert (await read(ada, made)).status_code == 410


@pytest.mark.parametrize(
    ("given", "kept"),
    [("a/b\\c.txt", "c.txt"), (".bashrc", "bashrc"), ("..", "file"), ("x\n\0y.md", "x__y.md"), ("é" * 200 + ".json", "é" * 72 + ".json"), ("a" * 300, "a" * 150)],
)
def test_a_name_is_a_name_in_every_folder(given: str, kept: str) -> None:
    assert service.safe_name(given) == kept
