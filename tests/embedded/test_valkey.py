"""The embedded Valkey: closed to others, and never a reason not to start."""

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import redis

from backend.embedded.directory import VALKEY_UID, DataDirectory, dropped_uid
from backend.embedded.process import with_mark
from backend.embedded.valkey import Valkey

Make = Callable[[], Valkey]


@contextlib.contextmanager
def client(url: str):  # type: ignore[no-untyped-def]
    with redis.Redis.from_url(url) as opened:
        yield opened


def server(directory: DataDirectory) -> psutil.Process:
    (found,) = with_mark("valkey-server", str(directory.path / "valkey" / "valkey.conf"))
    return found


async def test_it_wants_its_password_and_listens_on_this_machine_only(valkey: Make, directory: DataDirectory) -> None:
    url = await valkey().start()
    with client(url) as open_, client(f"redis://127.0.0.1:{urlsplit(url).port}/0") as closed:
        assert open_.config_get("bind") == {b"bind": b"127.0.0.1"} or open_.config_get("bind") == {"bind": "127.0.0.1"}
        with pytest.raises(redis.AuthenticationError):
            closed.ping()
    config = directory.path / "valkey" / "valkey.conf"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    password = urlsplit(url).password
    assert password and not any(password in word for word in server(directory).cmdline())


async def test_started_by_root_it_runs_under_its_own_uid(valkey: Make, directory: DataDirectory) -> None:
    await valkey().start()
    assert server(directory).uids().real == (dropped_uid(VALKEY_UID) or os.geteuid())


async def test_what_it_holds_outlives_an_orderly_stop(valkey: Make) -> None:
    first = valkey()
    url = await first.start()
    with client(url) as open_:
        open_.xadd("events", {"n": 1})
    await first.stop()
    assert await valkey().start() == url
    with client(url) as open_:
        assert open_.xlen("events") == 1


async def test_a_server_that_an_earlier_start_left_behind_is_ended_first(valkey: Make, directory: DataDirectory) -> None:
    url = await valkey().start()
    with client(url) as open_:
        open_.set("kept", "1")
    left = server(directory)
    with client(await valkey().start()) as open_:
        assert open_.get("kept") == b"1"
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE


async def test_a_file_it_cannot_read_is_put_aside_and_it_starts_empty(valkey: Make, directory: DataDirectory) -> None:
    first = valkey()
    with client(await first.start()) as open_:
        open_.set("lost", "1")
    await first.stop()
    for part in (directory.path / "valkey" / "appendonlydir").iterdir():
        if part.suffix != ".manifest":
            part.write_bytes(b"this is not an append-only file\r\n" * 10)
    with client(await valkey().start()) as open_:
        assert open_.get("lost") is None
    kept: list[Path] = list((directory.path / "valkey").glob("appendonlydir.broken-*"))
    assert len(kept) == 1
