"""Bombs: each is stopped, its box goes on, and another box stays quick."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from backend.sandbox.bubblewrap import Box, Bubblewrap
from backend.sandbox.protocol import QuotaExceeded
from tests.sandbox.conftest import new_spec

QUICK = 1.0


@asynccontextmanager
async def neighbour(driver: Bubblewrap) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Another box; calling it gives the seconds that its slowest command of twenty took, but one."""
    spec = new_spec()
    box = await driver.open(spec)

    async def slowest() -> float:
        times = []
        for _ in range(20):
            began = time.perf_counter()
            assert (await box.exec("true")).exit_code == 0
            times.append(time.perf_counter() - began)
        return sorted(times)[-2]

    yield slowest
    await box.close()
    await driver.destroy_workspace(spec.workspace)


async def test_a_fork_bomb_is_stopped_and_the_box_can_be_cleared(driver: Bubblewrap, box: Box) -> None:
    async with neighbour(driver) as slowest:
        bomb = await box.spawn("bomb() { bomb | bomb & }; while true; do bomb; done")
        while (await box.metrics()).processes < 40:
            pass
        assert await slowest() < QUICK
        assert (await box.metrics()).processes <= box.spec.limits.processes + 16
        await box.kill(bomb, grace=0)
        await box.kill(bomb, grace=0)
        assert (await box.exec("echo fine", timeout=20)).stdout.text() == "fine\n"


async def test_when_no_process_is_left_a_command_still_runs_and_is_told_why_it_cannot_fork(box: Box) -> None:
    fill = (
        "import os, time\nwhile True:\n try: os.fork() or time.sleep(1000)\n except OSError: time.sleep(1000)"
    )
    hog = await box.spawn(["/usr/bin/python3", "-c", fill])
    while (await box.metrics()).processes < box.spec.limits.processes - 1:
        pass
    result = await box.exec(["/usr/bin/python3", "-c", "import os; os.fork()"])
    assert "Resource temporarily unavailable" in result.stderr.text()
    await box.write("still.txt", b"works")
    await box.kill(hog, grace=0)
    assert (await box.exec("echo fine; cat still.txt | cat")).stdout.text() == "fine\nworks"


async def test_a_memory_bomb_ends_and_the_box_does_not(driver: Bubblewrap, box: Box) -> None:
    script = "parts = []\nwhile True: parts.append(bytearray(b'x') * (8 << 20))"
    async with neighbour(driver) as slowest:
        bomb = asyncio.create_task(box.exec(["/usr/bin/python3", "-c", script], timeout=60))
        assert await slowest() < QUICK
        result = await bomb
    assert result.exit_code != 0
    if driver.capabilities.hard_memory_limit:
        assert result.status == "out_of_memory"
    assert (await box.exec("echo fine")).stdout.text() == "fine\n"


async def test_memory_shared_out_over_many_processes_counts_together(box: Box) -> None:
    script = "import os, time\nfor _ in range(8): os.fork() or (globals().update(b=bytearray(b'x') * (64 << 20)), time.sleep(30))\nos.wait()"
    began = time.monotonic()
    await box.exec(["/usr/bin/python3", "-c", script], timeout=40)
    assert time.monotonic() - began < 25
    assert (await box.metrics()).memory < box.spec.limits.memory_mb << 20
    assert (await box.exec("pkill python3; echo fine")).stdout.text() == "fine\n"


async def test_memory_shared_between_processes_counts_once(box: Box) -> None:
    script = "import mmap, os, time\nm = mmap.mmap(-1, 100 << 20)\nfor _ in range(6): os.fork() or (m.write(bytes(100 << 20)), time.sleep(0.5), os._exit(0))\nfor _ in range(6): os.wait()"
    result = await box.exec(["/usr/bin/python3", "-c", script], timeout=40)
    assert (result.status, result.exit_code) == ("ok", 0)


async def test_files_in_memory_are_bounded(box: Box) -> None:
    result = await box.exec(
        "for d in /tmp /dev/shm /dev /; do head -c 100M /dev/zero > $d/fill 2>/dev/null; stat -c %s $d/fill 2>/dev/null; done"
    )
    assert all(int(size) <= 32 << 20 for size in result.stdout.text().split())
    assert (await box.exec("rm -f /tmp/fill /dev/shm/fill; echo fine")).stdout.text() == "fine\n"


async def test_a_disk_bomb_is_stopped(driver: Bubblewrap, box: Box) -> None:
    async with neighbour(driver) as slowest:
        bomb = asyncio.create_task(
            box.exec(
                "n=0; while head -c 4M /dev/zero > big.$n; do n=$((n+1)); sleep 0.05; done; exit 7",
                timeout=60,
            )
        )
        assert await slowest() < QUICK
        result = await bomb
    expected = ("ok", 7) if driver.capabilities.hard_disk_quota else ("out_of_disk", 137)
    assert (result.status, result.exit_code) == expected
    assert (await box.exec("rm big.*; echo fine > f; cat f")).stdout.text() == "fine\n"


async def test_one_file_cannot_be_larger_than_the_disk(box: Box) -> None:
    result = await box.exec("truncate -s 100G sparse")
    assert result.exit_code != 0
    assert (await box.exec("echo fine")).stdout.text() == "fine\n"


async def test_a_full_disk_refuses_a_write_and_keeps_the_old_file(driver: Bubblewrap, box: Box) -> None:
    if not driver.capabilities.hard_disk_quota:
        return
    await box.write("kept", b"old")
    await box.exec("head -c 1G /dev/zero > big")
    try:
        await box.write("kept", b"n" * 2_000_000)
        raise AssertionError("the disk was full")
    except QuotaExceeded:
        pass
    assert (await box.read("kept")).data == b"old"
    flood = await box.exec("seq 1 100000")
    assert flood.stdout.size > 500_000 and flood.exit_code == 0


async def test_an_inode_bomb_is_stopped(driver: Bubblewrap, box: Box) -> None:
    script = "import time\nn = 0\ntry:\n  while True:\n    open(f'f{n}', 'w').close(); n += 1\n    if n % 100 == 0: time.sleep(0.05)\nexcept OSError: raise SystemExit(7)"
    async with neighbour(driver) as slowest:
        bomb = asyncio.create_task(box.exec(["/usr/bin/python3", "-c", script], timeout=60))
        assert await slowest() < QUICK
        result = await bomb
    expected = ("ok", 7) if driver.capabilities.hard_disk_quota else ("out_of_disk", 137)
    assert (result.status, result.exit_code) == expected
    assert (
        await box.exec("find . -name 'f*' -delete; echo fine > f; cat f", timeout=60)
    ).stdout.text() == "fine\n"
