"""Which control groups are used, on trees of plain files that look like the kernel's."""

from pathlib import Path

from backend.sandbox.cgroups import ControlGroups
from backend.sandbox.protocol import Limits

LIMITS = Limits(memory_mb=100, processes=50, cpus=1.5)


def delegated(root: Path, own: str) -> Path:
    """A version-2 tree whose group `own` was handed to us."""
    (root / "cgroup.subtree_control").parent.mkdir(parents=True, exist_ok=True)
    for path in (root, root / own.strip("/")):
        path.mkdir(parents=True, exist_ok=True)
        (path / "cgroup.controllers").write_text("cpu io memory pids")
        (path / "cgroup.type").write_text("domain")
        (path / "cgroup.procs").write_text("")
    (root / own.strip("/") / "cgroup.subtree_control").write_text("")
    return root / own.strip("/")


def line(mount: Path, kind: str, options: str, root: str = "/") -> str:
    return f"30 20 0:26 {root} {mount} rw,nosuid - {kind} {kind} {options}\n"


def test_a_delegated_group_of_version_2_is_divided(tmp_path: Path) -> None:
    own = delegated(tmp_path, "/user.slice/vibe.service")
    (own / "cgroup.procs").write_text("41\n")
    (own / "vibe-sandbox").mkdir()
    groups = ControlGroups(line(tmp_path, "cgroup2", "rw"), "0::/user.slice/vibe.service\n")
    assert groups.controllers == {"memory", "pids", "cpu"}
    assert (own / "vibe-service" / "cgroup.procs").read_text() == "41"
    assert (own / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"

    box = groups.create("box", LIMITS)
    directory = own / "vibe-sandbox" / "box"
    written = {file.name: file.read_text() for file in directory.iterdir()}
    assert written["memory.max"] == str(100 << 20) and written["memory.swap.max"] == "0"
    assert written["pids.max"] == "66" and written["cpu.max"] == "150000 100000"
    assert box.entrances == [str(directory / "cgroup.procs")]
    assert groups.names() == {"box"}
    (directory / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    (directory / "memory.current").write_text("4096\n")
    assert (box.out_of_memory_kills(), box.memory()) == (2, 4096)


def test_a_second_process_of_the_service_finds_its_way_from_the_leaf(tmp_path: Path) -> None:
    own = delegated(tmp_path, "/vibe.service")
    (own / "vibe-service").mkdir()
    (own / "cgroup.subtree_control").write_text("cpu memory pids")
    groups = ControlGroups(line(tmp_path, "cgroup2", "rw"), "0::/vibe.service/vibe-service\n")
    assert [h.parent for h in groups.hierarchies] == [own / "vibe-sandbox"]


def test_a_group_that_is_not_ours_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    assert ControlGroups(line(tmp_path, "cgroup2", "rw"), "0::/\n").controllers == frozenset()
    assert (
        ControlGroups(line(tmp_path / "none", "cgroup", "rw,memory"), "4:memory:/\n").controllers
        == frozenset()
    )
    assert ControlGroups("", "").controllers == frozenset()


def test_version_1_is_used_controller_by_controller(tmp_path: Path) -> None:
    memory, pids = tmp_path / "memory", tmp_path / "pids"
    (memory / "slice" / "own").mkdir(parents=True)
    pids.mkdir()
    mounts = (
        line(memory, "cgroup", "rw,memory")
        + line(pids, "cgroup", "rw,pids")
        + line(tmp_path / "x", "cgroup", "rw,freezer")
    )
    groups = ControlGroups(mounts, "8:pids:/\n4:memory:/slice/own\n0::/\n")
    assert groups.controllers == {"memory", "pids"}
    box = groups.create("box", LIMITS)
    assert (memory / "slice/own/vibe-sandbox/box/memory.limit_in_bytes").read_text() == str(100 << 20)
    assert (pids / "vibe-sandbox/box/pids.max").read_text() == "66"
    (memory / "slice/own/vibe-sandbox/box/memory.oom_control").write_text(
        "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"
    )
    assert box.out_of_memory_kills() == 1


def test_in_a_container_the_groups_root_is_the_mount(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    groups = ControlGroups(line(pids, "cgroup", "rw,pids", root="/docker/abc"), "8:pids:/docker/abc\n")
    assert [h.parent for h in groups.hierarchies] == [pids / "vibe-sandbox"]
