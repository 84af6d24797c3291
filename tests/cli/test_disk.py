"""A full disk refuses new work and loses nothing."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.embedded.directory import DataDirectory
from tests.product import Product, belonging, end, rows

PASSWORD = "correct horse battery"


@pytest.fixture
def small(directory: DataDirectory, cluster: Path) -> Iterator[Product]:
    """A product on a disk of its own of 400 MB, as root; a plain user cannot mount one and has the machine's."""
    mounted = os.geteuid() == 0
    if mounted:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=0711", "tmpfs", directory.path], check=True)
    for room in ("postgres", "programs"):
        if (cluster / room).exists():
            subprocess.run(["cp", "-a", cluster / room, directory.path / room], check=True)
    made = Product(directory.path, VIBE_MIN_FREE_MB="100")
    yield made
    made.close()
    end(belonging(directory.path))
    if mounted:
        for files in directory.path.glob("workspaces/*/files"):
            subprocess.run(["umount", "--lazy", files], check=False, capture_output=True)
        subprocess.run(["umount", "--lazy", directory.path], check=True)


def fill(path: Path, leave: int) -> None:
    """Write one file until only `leave` bytes are free."""
    with (path / "ballast").open("ab") as ballast:
        while (free := shutil.disk_usage(path).free - leave) > 0:
            try:
                ballast.write(b"\0" * min(free, 1_000_000))
                ballast.flush()
            except OSError:
                return


def test_a_nearly_full_disk_refuses_new_work_and_a_full_one_loses_nothing(small: Product) -> None:
    small.start()
    assert small.vibe("owner", "create", "--email", "a@example.org", "--name", "Ann", VIBE_OWNER_PASSWORD=PASSWORD).returncode == 0
    first = small.vibe("run", "hello")
    assert first.returncode == 0, first.stderr
    thread = first.stderr.rpartition("--thread ")[2].split()[0]
    if os.geteuid() != 0:
        small.stop()
        small.environment["VIBE_MIN_FREE_MB"] = str(10**9)
        small.start()
    else:
        fill(small.path, leave=50_000_000)
    while (refused := small.vibe("run", "--thread", thread, "more")).returncode == 0:
        pass  # the free space is measured once a second
    assert refused.returncode == 1 and "disk" in refused.stderr
    if os.geteuid() != 0:
        small.stop()
        small.environment["VIBE_MIN_FREE_MB"] = "0"
        small.start()
    else:
        fill(small.path, leave=0)
        assert small.vibe("run", "--thread", thread, "more").returncode == 1
        (small.path / "ballast").unlink()
    while (again := small.vibe("run", "--thread", thread, "hello again")).returncode != 0:
        assert "disk" in again.stderr or "moment" in again.stderr, again.stderr
    assert small.stop() == 0
    said = "\n".join(rows(small.path)["messages"])
    assert "hello again" in said and "hello" in said.replace("hello again", "")
