"""The manager: one box per workspace, idle ones stopped, a bound on the live ones."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backend.sandbox.bubblewrap import Bubblewrap
from backend.sandbox.protocol import Network, SandboxUnavailable, TooManySandboxes
from backend.sandbox.service import SandboxManager
from tests.sandbox.conftest import new_spec


@pytest.fixture
async def manager(root: Path) -> AsyncIterator[SandboxManager]:
    manager = SandboxManager(Bubblewrap(root / "managed"), idle=0.0, most=2)
    yield manager
    for workspace in list(manager.live):
        await manager.stop(workspace)
    await manager.close()


async def test_users_of_a_workspace_share_one_box(manager: SandboxManager) -> None:
    spec = new_spec()

    async def append(text: str) -> int:
        async with manager.use(spec) as use:
            await use.sandbox.exec(f"echo {text} >> shared")
            return id(use.sandbox)

    assert len(set(await asyncio.gather(*(append(str(n)) for n in range(5))))) == 1
    async with manager.use(spec) as use:
        assert len((await use.sandbox.read("shared")).data.split()) == 5
    await manager.destroy(spec.workspace)


async def test_an_idle_box_is_stopped_and_the_next_user_hears_what_was_running(
    manager: SandboxManager,
) -> None:
    spec = new_spec()
    async with manager.use(spec) as use:
        assert use.restarted_with == ()
        await use.sandbox.write("kept", b"kept")
        await use.sandbox.spawn("sleep 1000")
        await manager.stop_idle()
        assert manager.live == [spec.workspace]
    await manager.stop_idle()
    assert manager.live == []
    async with manager.use(spec) as use:
        assert use.restarted_with == ("sleep 1000",)
        assert (await use.sandbox.read("kept")).data == b"kept"
    async with manager.use(spec) as use:
        assert use.restarted_with == ()
    await manager.destroy(spec.workspace)


async def test_a_box_that_died_is_started_again(manager: SandboxManager) -> None:
    spec = new_spec()
    async with manager.use(spec) as use:
        await use.sandbox.close()
    async with manager.use(spec) as use:
        assert (await use.sandbox.exec("echo fine")).stdout.text() == "fine\n"
    await manager.destroy(spec.workspace)


async def test_a_changed_policy_takes_effect_when_nobody_uses_the_box(manager: SandboxManager) -> None:
    spec = new_spec()
    changed = new_spec(workspace=spec.workspace, network=Network("open"))
    async with manager.use(spec) as use, manager.use(changed) as other:
        assert other.sandbox is use.sandbox
    async with manager.use(changed) as use:
        assert use.sandbox.spec == changed
    await manager.destroy(spec.workspace)


async def test_the_longest_idle_box_makes_room_and_busy_ones_do_not(manager: SandboxManager) -> None:
    first, second, third = new_spec(), new_spec(), new_spec()
    for spec in (first, second):
        async with manager.use(spec):
            pass
    async with manager.use(third):
        assert manager.live == [second.workspace, third.workspace]
        async with manager.use(second):
            with pytest.raises(TooManySandboxes):
                async with manager.use(first):
                    pass
    for spec in (first, second, third):
        await manager.destroy(spec.workspace)


async def test_after_closing_nothing_starts(root: Path) -> None:
    manager = SandboxManager(Bubblewrap(root / "closing"))
    assert (await manager.start()).ok
    spec = new_spec()
    async with manager.use(spec) as use:
        box = use.sandbox
    await manager.close()
    assert not box.alive and manager.live == []
    with pytest.raises(SandboxUnavailable):
        async with manager.use(spec):
            pass
    await manager.driver.destroy_workspace(spec.workspace)


async def test_a_box_that_nobody_uses_is_given_to_another_worker_at_once(root: Path) -> None:
    ours, theirs = (SandboxManager(Bubblewrap(root / "managed"), idle=600.0) for _ in range(2))
    for manager in (ours, theirs):
        assert (await manager.start()).ok
    spec = new_spec()
    async with ours.use(spec) as use:
        await use.sandbox.write("kept", b"kept")
    async with asyncio.timeout(3), theirs.use(spec) as use:
        assert (await use.sandbox.read("kept")).data == b"kept"
        assert ours.live == []
    await ours.close()
    await theirs.destroy(spec.workspace)
    await theirs.close()


async def test_a_box_in_use_is_waited_for(root: Path) -> None:
    ours, theirs = (SandboxManager(Bubblewrap(root / "managed"), idle=600.0) for _ in range(2))
    for manager in (ours, theirs):
        assert (await manager.start()).ok
    spec = new_spec()

    async def append(manager: SandboxManager, command: str) -> None:
        async with manager.use(spec) as use:
            await use.sandbox.exec(command)

    first = asyncio.create_task(append(ours, "sleep 0.5; echo first >> log"))
    while ours.live != [spec.workspace]:
        await asyncio.sleep(0.01)
    await append(theirs, "echo second >> log")
    await first
    async with theirs.use(spec) as use:
        assert (await use.sandbox.read("log")).data == b"first\nsecond\n"
    await ours.close()
    await theirs.destroy(spec.workspace)
    await theirs.close()
