"""Boxes end when they are closed, when they die and when the process that holds them is killed."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from backend.sandbox.bubblewrap import Box, Bubblewrap
from backend.sandbox.protocol import Network, SandboxBusy, SandboxDied, SandboxUnavailable
from tests.sandbox.conftest import new_spec

ROOT = Path(__file__).parents[2]
DAEMONS = "trap '' TERM HUP INT; for i in 1 2 3 4 5 6 7 8; do setsid -f bash -c 'trap \"\" TERM; sleep 1000; true' {marker} >/dev/null 2>&1 </dev/null; done"

HOLDER = """
import asyncio, sys, threading
from pathlib import Path
from backend.sandbox.bubblewrap import Bubblewrap
from tests.sandbox.conftest import new_spec
async def main():
    hard = sys.argv[4] == "True"
    driver = Bubblewrap(Path(sys.argv[1]), loop_images=hard, control_groups=hard)
    box = await driver.open(new_spec(workspace=sys.argv[2]))
    await box.exec(sys.argv[3])
    await box.exec("echo; sleep 1000", timeout=2000, on_output=lambda stream, data: print("ready", flush=True))
# The loop runs beside the main thread, as it does in a worker.
thread = threading.Thread(target=asyncio.run, args=(main(),))
thread.start()
thread.join()
"""


def left(marker: str) -> list[str]:
    """Processes on the machine that carry a marker among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


async def gone(marker: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while left(marker):
        assert time.monotonic() < until, left(marker)
        await asyncio.sleep(0.01)


async def test_closing_leaves_no_process(driver: Bubblewrap) -> None:
    marker = f"marker-{uuid.uuid4()}"
    box = await driver.open(new_spec())
    await box.exec(DAEMONS.format(marker=marker))
    await box.spawn(["/bin/bash", "-c", "sleep 1000; true", marker])
    assert len(left(marker)) >= 9
    await box.close()
    assert left(marker) == []
    await driver.destroy_workspace(box.spec.workspace)
    assert not (driver._volumes.root / box.spec.workspace).exists()


async def test_a_killed_owner_leaves_no_process_and_the_next_worker_cleans_up(driver: Bubblewrap) -> None:
    marker = f"marker-{uuid.uuid4()}"
    workspace = str(uuid.uuid4())
    root = driver._volumes.root
    hard = driver.capabilities.hard_memory_limit
    arguments = [str(root), workspace, DAEMONS.format(marker=marker), str(hard)]
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, *arguments],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
    )
    try:
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == b"ready\n"
        assert len(left(marker)) >= 8
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()  # type: ignore[union-attr]
    await gone(marker, 2.5)

    successor = Bubblewrap(root)
    cleaned = await successor.reap()
    if hard:
        assert workspace in cleaned
    assert not os.path.ismount(root / workspace / "files")
    assert workspace not in successor._cgroups.names()
    again = await successor.open(new_spec(workspace=workspace))
    assert again.restarted_with == ("echo; sleep 1000",)
    await again.close()
    await successor.destroy_workspace(workspace)


async def test_a_box_that_dies_fails_its_calls_and_frees_the_workspace(driver: Bubblewrap) -> None:
    spec = new_spec()
    box = await driver.open(spec)
    calls = [asyncio.create_task(box.exec("sleep 1000")) for _ in range(3)]
    process = await box.spawn("sleep 1000")
    box._kill()
    for call in calls:
        with pytest.raises(SandboxDied):
            await call
    with pytest.raises(SandboxDied):
        await box.logs(process)
    assert not box.alive
    await box.close()
    again = await driver.open(spec)
    assert sorted(again.restarted_with) == ["sleep 1000"] * 4
    await again.close()
    await driver.destroy_workspace(spec.workspace)


async def test_a_box_survives_the_thread_that_asked_for_it(driver: Bubblewrap) -> None:
    """The parent-death signal belongs to the thread that forked; it must not be a passing one."""
    import threading

    opened: list[Box] = []
    loop = asyncio.get_running_loop()

    def ask() -> None:
        opened.append(asyncio.run_coroutine_threadsafe(driver.open(new_spec()), loop).result())

    thread = threading.Thread(target=ask)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.01)
    assert (await opened[0].exec("sleep 0.1; echo fine")).stdout.text() == "fine\n"
    await opened[0].close()
    await driver.destroy_workspace(opened[0].spec.workspace)


async def test_a_box_outlives_the_driver_that_opened_it(root: Path) -> None:
    box = await Bubblewrap(root / "forgotten").open(new_spec())
    gc.collect()
    assert (await box.exec("sleep 0.2; echo fine")).stdout.text() == "fine\n"
    await box.close()


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.02, 0.05])
async def test_a_start_that_is_given_up_leaves_nothing_behind(driver: Bubblewrap, moment: float) -> None:
    spec = new_spec(network=Network("open"))
    starting = asyncio.create_task(driver.open(spec))
    with contextlib.suppress(TimeoutError):
        await (await asyncio.wait_for(starting, moment)).close()  # a fast machine has started it by then
    while True:
        try:
            box = await driver.open(spec)
            break
        except SandboxBusy:
            await asyncio.sleep(0.01)
    assert (await box.exec("echo fine")).stdout.text() == "fine\n"
    await box.close()
    await driver.destroy_workspace(spec.workspace)


@pytest.mark.parametrize("driver", ["hard"], indirect=True)
async def test_a_gigabyte_of_output_stays_out_of_the_hosts_memory(box: Box) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before, most = resident(), 0

    def look(stream: str, data: bytes) -> None:
        nonlocal most
        most = max(most, resident())

    result = await box.exec("head -c 1000000000 /dev/zero", on_output=look, timeout=120)
    assert result.stdout.size == 1_000_000_000
    assert most - before < 50 << 20


async def test_without_bubblewrap_nothing_runs_and_the_fix_is_named(root: Path) -> None:
    driver = Bubblewrap(root / "without", binary="no-such-bwrap")
    availability = await driver.check()
    assert not availability.ok
    assert "not installed" in availability.reason and "apt-get install bubblewrap" in availability.fix
    with pytest.raises(SandboxUnavailable):
        await driver.open(new_spec())


async def test_a_machine_that_refuses_namespaces_is_told_which_settings_to_change(root: Path) -> None:
    refusing = root / "refusing-bwrap"
    refusing.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'bubblewrap 0.8.0' && exit\n"
        "echo 'bwrap: No permissions to create a new namespace' >&2; exit 1\n"
    )
    refusing.chmod(0o755)
    driver = Bubblewrap(root / "refused", binary=str(refusing))
    availability = await driver.check()
    assert not availability.ok
    assert "No permissions to create a new namespace" in availability.reason
    assert "user.max_user_namespaces" in availability.fix and "apparmor" in availability.fix
    with pytest.raises(SandboxUnavailable):
        await driver.open(new_spec())
    ancient = root / "ancient-bwrap"
    ancient.write_text("#!/bin/sh\necho 'bubblewrap 0.6.1'\n")
    ancient.chmod(0o755)
    availability = await Bubblewrap(root / "ancient", binary=str(ancient)).check()
    assert not availability.ok and "0.6" in availability.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="a plain user's boxes run as that user")
async def test_a_closed_parent_directory_is_named(root: Path) -> None:
    closed = root / "closed"
    closed.mkdir(mode=0o700)
    availability = await Bubblewrap(closed / "workspaces").check()
    assert not availability.ok
    assert str(closed) in availability.reason and "VIBE_DATA_DIR" in availability.fix


async def test_without_the_systems_python_our_own_runs_the_supervisor(root: Path) -> None:
    driver = Bubblewrap(root / "own-python", python=Path("/usr/bin/no-such-python"))
    assert (await driver.check()).ok
    box = await driver.open(new_spec())
    await box.write("file", b"content")
    assert (await box.search("con", glob="f*")).matches[0].text == "content"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert (
        await box.exec(f"/opt/python/bin/python{version} -c 'print(1)'; touch /opt/python/new")
    ).stdout.text() == "1\n"
    await box.close()
    await driver.destroy_workspace(box.spec.workspace)
