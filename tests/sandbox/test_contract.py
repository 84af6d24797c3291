"""What every sandbox driver must do; a new driver joins by the `driver` fixture."""

import asyncio
import hashlib
import io
import tarfile
import time
from pathlib import Path

import pytest

from backend.sandbox.protocol import (
    Conflict,
    Driver,
    InvalidCall,
    NotFound,
    Sandbox,
    SandboxBusy,
    SandboxDied,
)
from tests.sandbox.conftest import new_spec


async def until(condition: str, box: Sandbox) -> None:
    """Wait inside the box, by the box's own shell, until a condition holds."""
    result = await box.exec(f"until {condition}; do sleep 0.01; done", timeout=20)
    assert result.status == "ok", condition


async def output(box: Sandbox, command: str) -> str:
    return (await box.exec(command)).stdout.text()


async def test_a_machine_that_can_run_boxes_says_so(driver: Driver) -> None:
    availability = await driver.check()
    assert availability.ok, availability


# -- commands


async def test_a_command_gives_its_exit_code_and_both_streams_apart(box: Sandbox) -> None:
    result = await box.exec("echo out; echo err >&2; exit 3")
    assert (result.status, result.exit_code) == ("ok", 3)
    assert (result.stdout.text(), result.stderr.text()) == ("out\n", "err\n")
    assert not result.truncated and result.log_path is None


async def test_a_list_is_run_as_it_is_without_a_shell(box: Sandbox) -> None:
    result = await box.exec(["printf", "%s|", "a b", "$HOME", "*"])
    assert result.stdout.text() == "a b|$HOME|*|"


async def test_directory_environment_and_standard_input_reach_the_command(box: Sandbox) -> None:
    await box.exec("mkdir -p sub/dir")
    result = await box.exec(
        "pwd; echo $GREETING; cat", cwd="sub/dir", env={"GREETING": "hello"}, stdin=b"given"
    )
    assert result.stdout.text() == "/workspace/sub/dir\nhello\ngiven"


async def test_megabytes_of_standard_input_arrive_whole(box: Sandbox) -> None:
    data = bytes(range(256)) * 12_000
    result = await box.exec("sha256sum", stdin=data)
    assert result.stdout.text().split()[0] == hashlib.sha256(data).hexdigest()


async def test_a_command_that_does_not_read_its_input_still_ends(box: Sandbox) -> None:
    result = await box.exec("exec <&-; echo done", stdin=b"x" * 3_000_000)
    assert result.stdout.text() == "done\n"


async def test_what_does_not_exist_is_named(box: Sandbox) -> None:
    assert (await box.exec("no-such-program")).exit_code == 127
    with pytest.raises(NotFound, match="no-such-program"):
        await box.exec(["no-such-program"])
    with pytest.raises(NotFound, match="nowhere"):
        await box.exec("true", cwd="nowhere")


async def test_arguments_that_no_program_can_have_are_refused_and_hurt_nothing(box: Sandbox) -> None:
    for bad in ("echo \0", ["echo", "\0"], "", [], "x" * 200_000, "echo \ud800"):
        with pytest.raises(InvalidCall):
            await box.exec(bad)
    with pytest.raises(InvalidCall):
        await box.exec("true", env={"A=B\0": "x"})
    with pytest.raises(InvalidCall):
        await box.exec("true", cwd="nul\0byte")
    with pytest.raises(InvalidCall):
        await box.pty_open("true", cols=10**9, on_output=lambda data: None)
    assert await output(box, "echo fine") == "fine\n"


async def test_a_command_that_a_signal_ended_has_the_shells_exit_code(box: Sandbox) -> None:
    assert (await box.exec("kill -SEGV $$")).exit_code == 128 + 11


async def test_a_timeout_kills_everything_that_the_command_started_and_keeps_its_output(box: Sandbox) -> None:
    script = "echo before; sleep 1000 & setsid -f sleep 2000; (trap '' TERM; sleep 3000) & sleep 4000"
    result = await box.exec(script, timeout=0.3)
    assert result.status == "timeout"
    assert result.stdout.text() == "before\n"
    assert await output(box, "pgrep -c sleep || true") == "0\n"


async def test_cancelling_a_command_kills_it(box: Sandbox) -> None:
    started = asyncio.Event()
    running = asyncio.create_task(
        box.exec("echo go; sleep 1000 & wait", on_output=lambda stream, data: started.set())
    )
    await asyncio.wait_for(started.wait(), 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until("! pgrep sleep >/dev/null || [ $(pgrep -c sleep) = 0 ]", box)


async def test_a_daemon_that_holds_the_output_open_is_not_waited_for_and_lives_on(box: Sandbox) -> None:
    result = await box.exec("(while true; do echo noise; sleep 0.05; done) & echo started", timeout=20)
    assert result.status == "ok" and "started\n" in result.stdout.text()
    assert result.duration < 2
    [process] = [p for p in await box.processes() if p.kind == "exec"]
    assert not process.running
    assert (await box.exec("pgrep -f 'echo noise'")).exit_code == 0
    await box.kill(process.id)
    await until("! pgrep -f 'echo [n]oise' >/dev/null", box)


async def test_output_is_heard_piece_by_piece_at_once(box: Sandbox) -> None:
    heard: list[tuple[str, bytes, float]] = []
    began = time.monotonic()
    await box.exec(
        "echo one; sleep 0.3; echo two >&2",
        on_output=lambda stream, data: heard.append((stream, data, time.monotonic() - began)),
    )
    assert [(stream, data) for stream, data, _ in heard] == [("stdout", b"one\n"), ("stderr", b"two\n")]
    assert heard[0][2] < 0.25


async def test_long_output_keeps_head_and_tail_and_the_whole_is_a_file(box: Sandbox) -> None:
    result = await box.exec("seq 1 20000")
    whole = "".join(f"{n}\n" for n in range(1, 20001)).encode()
    assert result.truncated and result.stdout.size == len(whole)
    assert (result.stdout.head, result.stdout.tail) == (whole[:4096], whole[-12288:])
    assert result.log_path is not None
    assert (await box.read(result.log_path)).data == whole


async def test_the_file_of_a_flood_is_capped_and_says_so(box: Sandbox) -> None:
    result = await box.exec("head -c 12000000 /dev/zero")
    assert result.stdout.size == 12_000_000
    assert result.log_path is not None
    assert (await box.stat(result.log_path)).size == 10 * 1024 * 1024
    assert result.log_dropped == 12_000_000 - 10 * 1024 * 1024


async def test_a_slow_listener_holds_the_command_back(box: Sandbox) -> None:
    released = asyncio.Event()

    async def wait(stream: str, data: bytes) -> None:
        await released.wait()

    flood = asyncio.create_task(box.exec("head -c 50000000 /dev/zero; touch finished", on_output=wait))
    await until("pgrep head >/dev/null", box)
    for _ in range(5):  # other calls go on meanwhile
        assert await output(box, "ls -A | grep -c finished || true") == "0\n"
    released.set()
    assert (await flood).stdout.size == 50_000_000


async def test_fifty_commands_run_side_by_side(box: Sandbox) -> None:
    results = await asyncio.gather(*(box.exec(f"echo {n}; exit {n}") for n in range(40)))
    assert [r.exit_code for r in results] == list(range(40))
    assert [r.stdout.text() for r in results] == [f"{n}\n" for n in range(40)]


# -- background


async def test_a_background_process_is_read_written_and_killed(box: Sandbox) -> None:
    process = await box.spawn("while read line; do echo got $line; done; echo bye")
    await box.send(process, b"first\n")
    await box.send(process, b"second\n", end=True)
    chunk = await box.logs(process)
    while chunk.running:
        chunk = await box.logs(process)
    assert chunk.data == b"got first\ngot second\nbye\n"
    assert (await box.logs(process, offset=4)).data == b"first\ngot second\nbye\n"
    assert chunk.exit_code == 0

    sleeper = await box.spawn("sleep 1000")
    await box.kill(sleeper, grace=0)
    chunk = await box.logs(sleeper)
    while chunk.running:
        chunk = await box.logs(sleeper)
    assert chunk.exit_code == 137
    listed = {p.id: p for p in await box.processes()}
    assert listed[sleeper].command == "sleep 1000" and not listed[sleeper].running
    with pytest.raises(NotFound):
        await box.logs("p999")


async def test_the_log_of_a_talkative_process_keeps_its_newest_lines(box: Sandbox) -> None:
    process = await box.spawn("seq 1 2000000; sleep 1000")
    await until("! pgrep seq >/dev/null", box)
    size = (await box.logs(process)).size
    end = await box.logs(process, offset=size - 8)
    assert end.size > 10 * 1024 * 1024
    assert end.data == b"2000000\n"
    start = await box.logs(process, offset=0, limit=4)
    assert start.data == b"1\n2\n"
    await box.kill(process, grace=0)


# -- terminals


async def test_a_terminal_is_typed_into_resized_and_closed(box: Sandbox) -> None:
    screen = bytearray()
    changed = asyncio.Event()

    def show(data: bytes) -> None:
        screen.extend(data)
        changed.set()

    async def see(text: bytes) -> None:
        while text not in screen:
            changed.clear()
            await asyncio.wait_for(changed.wait(), 10)

    terminal = await box.pty_open(["/bin/sh"], cols=81, rows=25, on_output=show, env={"PS1": "ready> "})
    await see(b"ready> ")
    await box.pty_write(terminal, b"stty size; tty; echo a$((1+1))b\n")
    await see(b"25 81")
    await see(b"a2b")
    assert b"/dev/pts/" in screen
    await box.pty_resize(terminal, 100, 40)
    await box.pty_write(terminal, b"stty size\n")
    await see(b"40 100")
    await box.pty_write(terminal, b"sleep 1000\n")
    await until("pgrep -x sleep >/dev/null", box)
    await box.pty_write(terminal, b"\x03")
    await until("! pgrep -x sleep >/dev/null", box)
    await box.pty_write(terminal, b"sleep 1001\n")
    await until("pgrep -x sleep >/dev/null", box)
    await box.pty_close(terminal)
    await until("! pgrep -x sleep >/dev/null", box)


# -- files


async def test_files_are_written_and_read_as_bytes(box: Sandbox) -> None:
    data = bytes(range(256)) * 5000
    digest = await box.write("deep/down/file.bin", data)
    assert digest == hashlib.sha256(data).hexdigest()
    content = await box.read("deep/down/file.bin", length=2_000_000)
    assert (content.data, content.size, content.sha256) == (data, len(data), digest)
    part = await box.read("deep/down/file.bin", offset=1000, length=50)
    assert part.data == data[1000:1050]
    assert (await box.exec("sha256sum deep/down/file.bin")).stdout.text().startswith(digest)
    assert (await box.read("deep/down/file.bin", offset=10**9)).data == b""


async def test_a_write_that_expects_another_content_is_refused(box: Sandbox) -> None:
    first = await box.write("notes.txt", b"one", expected_sha256="")
    with pytest.raises(Conflict):
        await box.write("notes.txt", b"two", expected_sha256="")
    await box.write("notes.txt", b"two", expected_sha256=first)
    with pytest.raises(Conflict):
        await box.write("notes.txt", b"three", expected_sha256=first)
    assert (await box.read("notes.txt")).data == b"two"


async def test_a_write_keeps_or_sets_the_mode_and_leaves_nothing_half_done(box: Sandbox) -> None:
    await box.write("run.sh", b"#!/bin/sh\necho ran\n", mode=0o755)
    await box.write("run.sh", b"#!/bin/sh\necho again\n")
    assert await output(box, "./run.sh; ls -A") == "again\nrun.sh\n"


async def test_a_write_through_a_link_changes_its_target(box: Sandbox) -> None:
    await box.exec("echo old > target; ln -s target link")
    await box.write("link", b"new")
    assert await output(box, "cat target; readlink link") == "newtarget\n"


async def test_the_tree_is_listed_and_described(box: Sandbox) -> None:
    await box.exec("mkdir -p a/b/c; echo 12345 > a/file; ln -s file a/link; mkfifo a/pipe")
    listing = await box.list("a", depth=2)
    assert [(e.path, e.kind) for e in listing.entries] == [
        ("/workspace/a/b", "dir"),
        ("/workspace/a/b/c", "dir"),
        ("/workspace/a/file", "file"),
        ("/workspace/a/link", "symlink"),
        ("/workspace/a/pipe", "other"),
    ]
    info = await box.stat("a/link")
    assert (info.kind, info.target) == ("symlink", "file")
    assert (await box.stat("a/file")).size == 6
    few = await box.list("a", depth=3, limit=2)
    assert few.truncated and len(few.entries) == 2
    with pytest.raises(NotFound):
        await box.list("nowhere")


async def test_moving_never_overwrites(box: Sandbox) -> None:
    await box.write("a.txt", b"a")
    await box.write("b.txt", b"b")
    with pytest.raises(Conflict):
        await box.move("a.txt", "b.txt")
    await box.move("a.txt", "new/place.txt")
    assert (await box.read("new/place.txt")).data == b"a"
    with pytest.raises(NotFound):
        await box.read("a.txt")


async def test_deleting_removes_trees_but_never_what_a_link_points_to(box: Sandbox) -> None:
    await box.exec("mkdir -p kept tree/sub; echo x > kept/file; ln -s ../kept tree/link; ln -s kept link")
    await box.delete("tree")
    await box.delete("link")
    assert await output(box, "find . -type f; ls -A") == "./kept/file\nkept\n"
    with pytest.raises(InvalidCall):
        await box.delete("/workspace")
    with pytest.raises(InvalidCall):
        await box.delete("kept/..")
    with pytest.raises(NotFound):
        await box.delete("kept/nothing")


async def test_lines_and_names_are_searched(box: Sandbox) -> None:
    await box.exec(
        "mkdir -p src node_modules; printf 'def one():\\n  pass\\ndef two():\\n' > src/a.py; "
        "echo 'def hidden():' > node_modules/x.py; printf 'def \\0' > src/binary.py; echo 'a.c' > notes.md"
    )
    found = await box.search(r"def \w+", glob="*.py")
    assert [(m.path, m.line, m.text) for m in found.matches] == [
        ("/workspace/src/a.py", 1, "def one():"),
        ("/workspace/src/a.py", 3, "def two():"),
    ]
    assert [m.path for m in (await box.search("a.c", regex=False)).matches] == ["/workspace/notes.md"]
    assert [m.path for m in (await box.search("", glob="*.md")).matches] == ["/workspace/notes.md"]
    assert (await box.search("def", limit=1)).truncated
    with pytest.raises(InvalidCall, match="pattern"):
        await box.search("(")


async def test_a_pattern_that_never_ends_does_not_hold_up_the_box(box: Sandbox) -> None:
    await box.write("trap.txt", b"a" * 60)
    slow = asyncio.create_task(box.search(r"(a+)+$b"))
    for _ in range(3):
        assert await output(box, "echo quick") == "quick\n"
    assert not slow.done()
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow


async def test_pipes_devices_and_directories_are_refused_at_once(box: Sandbox) -> None:
    await box.exec("mkfifo pipe; mkdir dir; ln -s /dev/zero zero")
    for path in ("pipe", "dir", "zero"):
        with pytest.raises(InvalidCall):
            await box.read(path)
    with pytest.raises(InvalidCall):
        await box.write("dir", b"x")
    with pytest.raises(InvalidCall):
        await box.read("nul\0byte")


async def test_an_archive_holds_the_tree(box: Sandbox) -> None:
    await box.exec(
        "mkdir -p site/sub; echo hi > site/sub/page; ln -s /etc/passwd site/link; mkfifo site/pipe"
    )
    data = b"".join([piece async for piece in box.archive("site")])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = {member.name: member for member in tar.getmembers()}
        page = tar.extractfile("site/sub/page")
        assert page is not None and page.read() == b"hi\n"
    assert set(names) == {"site", "site/sub", "site/sub/page", "site/link"}
    assert names["site/link"].issym()
    with pytest.raises(NotFound):
        [piece async for piece in box.archive("nowhere")]


# -- life


async def test_the_box_tells_what_it_uses(box: Sandbox) -> None:
    await box.write("blob", b"x" * 1_000_000)
    process = await box.spawn("sleep 1000")
    metrics = await box.metrics()
    assert metrics.processes >= 1 and metrics.memory > 0
    assert metrics.disk_limit == 64 * 1024 * 1024
    await box.kill(process, grace=0)


async def test_a_workspace_outlives_its_box_and_the_next_one_knows_what_was_running(driver: Driver) -> None:
    spec = new_spec()
    first = await driver.open(spec)
    await first.write("kept.txt", b"kept")
    await first.spawn("sleep 1000")
    await first.exec("true")
    await first.close()
    assert not first.alive
    with pytest.raises(SandboxDied):
        await first.exec("true")

    second = await driver.open(spec)
    assert second.restarted_with == ("sleep 1000",)
    assert (await second.read("kept.txt")).data == b"kept"
    await second.close()
    third = await driver.open(spec)
    assert third.restarted_with == ()
    await third.close()

    await driver.destroy_workspace(spec.workspace)
    fourth = await driver.open(spec)
    assert (await fourth.list()).entries == ()
    await fourth.close()
    await driver.destroy_workspace(spec.workspace)


async def test_a_workspace_full_of_closed_directories_and_links_is_destroyed_without_following(
    driver: Driver, root: Path
) -> None:
    outside = root / "kept-outside"
    outside.mkdir(exist_ok=True)
    (outside / "file").touch()
    spec = new_spec()
    box = await driver.open(spec)
    await box.exec(
        f"mkdir -p a/b/c; touch a/b/c/f; ln -s {outside} a/b/link; chmod 000 a/b/c; chmod 000 a/b; chmod 500 a"
    )
    await box.close()
    mode = outside.stat().st_mode
    await driver.destroy_workspace(spec.workspace)
    assert (outside / "file").exists() and outside.stat().st_mode == mode


async def test_a_workspace_has_one_box_at_a_time(driver: Driver, box: Sandbox) -> None:
    with pytest.raises(SandboxBusy):
        await driver.open(box.spec)
    with pytest.raises(SandboxBusy):
        await driver.destroy_workspace(box.spec.workspace)
    assert (await box.exec("echo fine")).stdout.text() == "fine\n"


async def test_boxes_do_not_see_each_other(driver: Driver, box: Sandbox) -> None:
    other = await driver.open(new_spec())
    try:
        await other.write("theirs.txt", b"theirs")
        await other.exec("touch /tmp/theirs; echo x > /dev/shm/theirs")
        await other.spawn("sleep 4242")
        assert await output(box, "find / -xdev -path /usr -prune -o -name 'theirs*' -print 2>/dev/null") == ""
        assert (
            await output(box, "ls -A /workspace /tmp /dev/shm | grep theirs; pgrep -f 'sleep 424[2]'") == ""
        )
    finally:
        await other.close()
        await driver.destroy_workspace(other.spec.workspace)
