"""The embedded Postgres: closed to others, quick, and whole after every kind of death."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from backend.embedded.directory import POSTGRES_UID, DataDirectory, dropped_uid
from backend.embedded.postgres import Postgres
from tests.product import belonging, end

Make = Callable[[], Postgres]

_SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from backend.embedded.directory import POSTGRES_UID, DataDirectory, dropped_uid
from backend.embedded.postgres import Postgres
from backend.embedded.programs import postgres_binaries

async def main():
    directory = DataDirectory(Path(sys.argv[1]))
    uid = dropped_uid(POSTGRES_UID)
    room, log = directory.room("postgres", uid), directory.room("logs") / "postgres.log"
    postgres = Postgres(room, postgres_binaries(directory.programs()), log, uid=uid, say=lambda _: None)
    await postgres.start()
    print(postgres.url, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def value(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def write(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (n int); INSERT INTO kept VALUES (1)")
    finally:
        await connection.close()


def postmaster(directory: DataDirectory) -> psutil.Process:
    return psutil.Process(int((directory.path / "postgres" / "18" / "postmaster.pid").read_text().split()[0]))


@pytest.mark.usefixtures("fresh")
async def test_it_wants_its_password_and_listens_on_this_machine_only(postgres: Make, directory: DataDirectory) -> None:
    url = await postgres().start()
    parts = urlsplit(url)
    assert parts.hostname == "127.0.0.1" and parts.password
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url.replace(parts.password, "wrong"))
    assert await value(url, "SHOW unix_socket_directories") == ""
    assert await value(url, "SHOW listen_addresses") == "127.0.0.1"
    assert stat.S_IMODE((directory.path / "postgres" / "password").stat().st_mode) == 0o600


async def test_started_by_root_it_runs_under_its_own_uid(postgres: Make, directory: DataDirectory) -> None:
    await postgres().start()
    ids = postmaster(directory).uids()
    assert set(ids) == {dropped_uid(POSTGRES_UID) or os.geteuid()}
    assert {one.stat().st_uid for one in (directory.path / "postgres").rglob("*")} == {ids.real}


@pytest.mark.usefixtures("fresh")
async def test_it_has_vectors_utf8_and_durable_commits(postgres: Make) -> None:
    url = await postgres().start()
    await value(url, "CREATE EXTENSION vector")
    assert await value(url, "SELECT '[3,4]'::vector <-> '[0,0]'::vector") == 5
    assert await value(url, "SELECT lower('ÄÖ') || current_setting('server_encoding')") == "äöUTF8"
    assert await value(url, "SHOW fsync") == "on"


@pytest.mark.usefixtures("fresh")
async def test_the_next_start_has_the_same_rows_at_the_same_address(postgres: Make) -> None:
    first = postgres()
    url = await first.start()
    await write(url)
    await first.stop()
    again = postgres()
    assert await again.start() == url
    assert await value(url, "SELECT count(*) FROM kept") == 1


@pytest.mark.usefixtures("fresh")
async def test_a_port_that_was_taken_meanwhile_is_replaced(postgres: Make) -> None:
    first = postgres()
    url = await first.start()
    await first.stop()
    with socket.create_server(("127.0.0.1", urlsplit(url).port or 0)):
        assert await value(await postgres().start(), "SELECT 1") == 1


@pytest.mark.usefixtures("fresh")
async def test_after_a_kill_of_all_its_processes_every_committed_row_is_there(postgres: Make, directory: DataDirectory) -> None:
    url = await postgres().start()
    await write(url)
    master = postmaster(directory)
    end([master, *master.children()])
    assert await value(await postgres().start(), "SELECT count(*) FROM kept") == 1


@pytest.mark.usefixtures("fresh")
async def test_a_stale_pid_file_that_names_another_living_program_stops_nothing(postgres: Make, directory: DataDirectory) -> None:
    first = postgres()
    await first.start()
    pid_file = directory.path / "postgres" / "18" / "postmaster.pid"
    text = pid_file.read_text()
    await first.stop()
    with subprocess.Popen(["sleep", "60"], user=dropped_uid(POSTGRES_UID)) as other:
        pid_file.write_text(text.replace(text.splitlines()[0], str(other.pid), 1))
        assert await value(await postgres().start(), "SELECT 1") == 1
        assert other.poll() is None, "a program that is not ours must be left alone"
        other.kill()


@pytest.mark.usefixtures("fresh")
async def test_a_server_that_an_earlier_start_left_behind_is_shut_down_first(postgres: Make, directory: DataDirectory) -> None:
    url = await postgres().start()
    await write(url)
    left = postmaster(directory)
    assert await value(await postgres().start(), "SELECT count(*) FROM kept") == 1
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE


@pytest.mark.usefixtures("fresh")
async def test_children_whose_postmaster_was_killed_are_ended_first(postgres: Make, directory: DataDirectory) -> None:
    url = await postgres().start()
    await write(url)
    connection = await asyncpg.connect(url)
    long = asyncio.create_task(connection.execute("SELECT count(*) FROM generate_series(1, 100000000000)"))
    while not await value(url, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT count%series%'"):
        await asyncio.sleep(0.01)
    master = postmaster(directory)
    children = master.children()
    master.kill()  # a backend that is busy does not notice it
    assert await value(await postgres().start(), "SELECT count(*) FROM kept") == 1
    assert not [one for one in children if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    with pytest.raises((asyncpg.PostgresError, OSError)):
        await long


async def test_an_interrupted_making_of_the_database_is_begun_anew(postgres: Make, directory: DataDirectory) -> None:
    half = directory.path / "postgres.new"
    (half / "data" / "base").mkdir(parents=True)
    assert await value(await postgres().start(), "SELECT 1") == 1
    assert not half.exists()


@pytest.mark.usefixtures("fresh")
async def test_it_ends_cleanly_when_its_supervisor_is_killed(postgres: Make, directory: DataDirectory) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SUPERVISOR, str(directory.path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as supervisor:
        assert supervisor.stdout is not None
        url = supervisor.stdout.readline().decode().strip()
        await write(url)
        master = postmaster(directory)
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()
    psutil.wait_procs([master], timeout=20)
    assert not belonging(directory.path)
    assert await value(await postgres().start(), "SELECT count(*) FROM kept") == 1
