"""What the sandbox costs: `python -m benchmarks.sandbox [--root DIR] [--boxes 30] [--starts 100]`.

Prints one line per figure, with what it must reach.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from backend.sandbox.bubblewrap import Box, Bubblewrap
from backend.sandbox.protocol import Limits, SandboxSpec


def show(name: str, values: list[float], must: str) -> None:
    """Percentiles of seconds, in milliseconds."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000

    print(
        f"{name:<44} p50 {at(0.5):7.1f} ms  p90 {at(0.9):7.1f}  p99 {at(0.99):7.1f}  n={len(ordered)}  must: {must}",
        flush=True,
    )


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


def spec(**limits: int) -> SandboxSpec:
    return SandboxSpec(str(uuid.uuid4()), limits=Limits(**limits))


def proportional_memory(marker: str) -> list[int]:
    """Bytes of each box: bwrap's processes whose command line has the marker, with what they share divided."""
    sizes: list[int] = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if marker not in (path / "cmdline").read_bytes().decode("utf-8", "replace"):
                continue
            lines = (path / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        sizes += [int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")]
    return sizes


async def starts(driver: Bubblewrap, count: int) -> None:
    opened, first, closed = [], [], []
    for _ in range(count):
        one = spec()
        began = time.perf_counter()
        box = await driver.open(one)
        opened.append(time.perf_counter() - began)
        await box.exec("true")
        first.append(time.perf_counter() - began)
        closed.append(await timed(box.close))
        await driver.destroy_workspace(one.workspace)
    show("start to ready", opened, "p50 <= 100, p99 <= 250")
    show("start to the end of a first command", first, "p50 <= 120")
    show("close", closed, "<= 2500")


async def commands(driver: Bubblewrap, count: int) -> None:
    box = await driver.open(spec())
    for _ in range(20):
        await box.exec("true")
    times = [await timed(lambda: box.exec("true")) for _ in range(count)]
    show("command", times, "p50 <= 5, p99 <= 20")
    print(f"{'commands one after another':<44} {count / sum(times):7.0f} /s  must: >= 300")
    show("file write, 10 kB", [await timed(lambda: box.write("f", b"x" * 10_000)) for _ in range(200)], "-")
    show("file read, 10 kB", [await timed(lambda: box.read("f")) for _ in range(200)], "-")
    heard: list[float] = []

    async def listen() -> None:
        began = time.perf_counter()
        await box.exec(
            "echo first; sleep 0.05", on_output=lambda s, d: heard.append(time.perf_counter() - began)
        )

    for _ in range(50):
        await listen()
    show("first byte heard", heard, "<= 150 (p95, at the client)")
    await flood(box)
    await box.close()
    await driver.destroy_workspace(box.spec.workspace)


async def flood(box: Box) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before, most = resident(), 0

    def look(stream: str, data: bytes) -> None:
        nonlocal most
        most = max(most, resident())

    seconds = await timed(lambda: box.exec("head -c 1000000000 /dev/zero", on_output=look, timeout=300))
    print(
        f"{'1 GB of output':<44} {1000 / seconds:7.0f} MB/s, memory +{(most - before) / 2**20:.1f} MB  must: <= 50 MB"
    )


async def idle(driver: Bubblewrap, count: int) -> None:
    boxes = [await driver.open(spec()) for _ in range(count)]
    for box in boxes:
        await box.exec("true")
    sizes = proportional_memory("backend.sandbox.inside")
    print(
        f"{f'{count} idle boxes, each':<44} {sum(sizes) / count / 2**20:7.1f} MB of memory (PSS)  must: <= 25"
    )
    await asyncio.gather(*(box.close() for box in boxes))
    for box in boxes:
        await driver.destroy_workspace(box.spec.workspace)


async def ends(driver: Bubblewrap, count: int) -> None:
    worst, left = 0.0, 0
    for number in range(count):
        marker = f"bench-{uuid.uuid4()}"
        box = await driver.open(spec())
        loop = f"for i in 1 2 3 4 5 6 7 8 9 10; do setsid -f bash -c 'trap \"\" TERM; sleep 1000; true' {marker} >/dev/null 2>&1; done"
        await box.exec(loop)
        began = time.perf_counter()
        await box.close()
        left += any(marker.encode() in _bytes(p) for p in Path("/proc").glob("[0-9]*/cmdline"))
        worst = max(worst, time.perf_counter() - began)
        await driver.destroy_workspace(box.spec.workspace)
        del number
    print(
        f"{f'{count} boxes with 10 daemons closed':<44} {count - left} clean, slowest {worst * 1000:.0f} ms  must: all, <= 2500 ms"
    )


HOLDER = """
import asyncio, sys
from pathlib import Path
from backend.sandbox.bubblewrap import Bubblewrap
from backend.sandbox.protocol import SandboxSpec
async def main():
    box = await Bubblewrap(Path(sys.argv[1])).open(SandboxSpec(sys.argv[2]))
    await box.exec("for i in 1 2 3 4 5; do setsid -f bash -c 'trap \"\" TERM; sleep 1000; true' " + sys.argv[2] + " >/dev/null 2>&1; done")
    print("ready", flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


async def kills(driver: Bubblewrap, root: Path, count: int) -> None:
    """Owners killed with SIGKILL: how long until nothing of the box is left on the machine."""
    times = []
    for _ in range(count):
        workspace = str(uuid.uuid4())
        holder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLDER, str(root), workspace, stdout=asyncio.subprocess.PIPE
        )
        assert holder.stdout is not None
        await holder.stdout.readline()
        holder.kill()
        began = time.perf_counter()
        await holder.wait()
        while any(workspace.encode() in _bytes(p) for p in Path("/proc").glob("[0-9]*/cmdline")):
            await asyncio.sleep(0.001)
        times.append(time.perf_counter() - began)
        await driver.reap()
        await driver.destroy_workspace(workspace)
    show("owner killed to nothing left", times, "all <= 2500")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


BOMBS = {
    "fork": "bomb() { bomb | bomb & }; while true; do bomb; done",
    "memory": "while true; do python3 -c \"l = []\nwhile True: l.append(bytearray(b'x') * (8 << 20))\"; done",
    "disk": "while true; do dd if=/dev/zero of=fill bs=1M count=500 2>/dev/null; rm -f fill; done",
    "inode": "python3 -c \"n = 0\nwhile True:\n try:\n  open('f%d' % n, 'w').close()\n except OSError: pass\n n += 1\"",
}


async def bombs(driver: Bubblewrap) -> None:
    for name, script in BOMBS.items():
        attacker, victim = await driver.open(spec(disk_mb=256, memory_mb=256)), await driver.open(spec())
        await attacker.spawn(script)
        began, times = time.perf_counter(), []
        while time.perf_counter() - began < 4:
            times.append(await timed(partial(victim.exec, "true")))
        show(f"command beside a {name} bomb", times, "p99 < 100 (with control groups)")
        await attacker.close()
        await victim.close()
        await driver.destroy_workspace(attacker.spec.workspace)
        await driver.destroy_workspace(victim.spec.workspace)


async def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--root", type=Path, default=None)
    arguments.add_argument("--starts", type=int, default=100)
    arguments.add_argument("--boxes", type=int, default=30)
    arguments.add_argument("--soft", action="store_true", help="only the watchdog's limits")
    chosen = arguments.parse_args()
    root = chosen.root or Path(tempfile.mkdtemp(prefix="vibe-bench-", dir="/tmp"))
    root.chmod(0o711)
    driver = Bubblewrap(root / "workspaces", loop_images=not chosen.soft, control_groups=not chosen.soft)
    availability = await driver.check()
    if not availability.ok:
        raise SystemExit(f"{availability.reason} {availability.fix}")
    try:
        await starts(driver, chosen.starts)
        await commands(driver, 1000)
        await idle(driver, chosen.boxes)
        await ends(driver, chosen.starts)
        await kills(driver, root / "workspaces", chosen.starts)
        await bombs(driver)
    finally:
        await driver.reap()
        shutil.rmtree(root)


if __name__ == "__main__":
    asyncio.run(main())
