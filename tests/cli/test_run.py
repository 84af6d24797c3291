"""`vibe run`: a message from the terminal, through the same API as everybody's."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from backend.cli.talk import Screen
from backend.embedded.directory import DataDirectory
from tests.product import ROOT, Product


@pytest.fixture
def running(product: Product) -> Iterator[Product]:
    """The product, up, with an owner."""
    product.start()
    made = product.vibe("owner", "create", "--email", "a@example.org", "--name", "Ann", VIBE_OWNER_PASSWORD="correct horse battery")
    assert made.returncode == 0, made.stderr
    yield product


def test_a_message_is_answered_with_the_tools_it_took(running: Product) -> None:
    done = running.vibe("run", "run `echo from the box`")
    assert done.returncode == 0, done.stderr
    assert "from the box" in done.stdout
    assert '→ shell {"command":"echo from the box"}' in done.stderr and "completed" in done.stderr
    thread = done.stderr.rpartition("--thread ")[2].split()[0]
    events = [json.loads(line) for line in running.vibe("run", "--json", "--thread", thread, "hello").stdout.splitlines()]
    assert events[0]["type"] == "stream.snapshot" and events[-1]["status"] == "completed"
    assert events[0]["run"]["thread_id"] == thread

    missing = running.vibe("run", "--agent", "Nobody", "hello")
    assert missing.returncode == 1 and "no agent named 'Nobody'" in missing.stderr

    key = running.vibe("keys", "create", "laptop").stdout.strip()
    assert running.vibe("run", "hello", VIBE_API_KEY=key).returncode == 0
    wrong = running.vibe("run", "hello", VIBE_API_KEY="vibe_wrong")
    assert wrong.returncode == 1 and wrong.stderr.startswith("vibe: ")


def test_ctrl_c_stops_the_run_itself(running: Product) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "backend.cli", "run", "run `sleep 300`"],
        env=running.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    ) as talking:  # fmt: skip
        assert talking.stderr is not None
        for line in talking.stderr:
            if "sleep 300" in line:
                break
        talking.send_signal(signal.SIGINT)
        rest = talking.stderr.read()
        assert talking.wait() == 1
    assert "stopped" in rest


def test_without_a_product_it_says_how_to_start_one(directory: DataDirectory) -> None:
    refused = Product(directory.path).vibe("run", "hello")
    assert refused.returncode == 1 and "vibe up" in refused.stderr


def test_an_answer_that_begins_again_after_a_lost_connection_is_not_shown_twice() -> None:
    out, notes = io.StringIO(), io.StringIO()
    screen = Screen(out, notes)
    message = {"role": "assistant", "content": "One two three", "tool_calls": []}
    for event in (
        {"type": "message.delta", "text": "One "},
        {"type": "stream.snapshot", "partial": {"content": "One two "}, "approvals": []},
        {"type": "message.delta", "text": "three"},
        {"type": "message.completed", "message": message},
    ):
        screen.show(event)
    assert out.getvalue() == "One two three\n"


def test_what_a_tool_prints_cannot_drive_the_terminal() -> None:
    notes = io.StringIO()
    Screen(io.StringIO(), notes).show({"type": "tool.output", "call_id": "1", "text": "\x1b]0;owned\x07\x1b[2J"})
    assert "\x1b" not in notes.getvalue() and "owned" in notes.getvalue()


def test_what_a_model_writes_cannot_drive_the_terminal_either() -> None:
    out = io.StringIO()
    Screen(out, io.StringIO()).show({"type": "message.delta", "text": "fine\n\tstill\x1b[2J"})
    assert out.getvalue() == "fine\n\tstill·[2J"
