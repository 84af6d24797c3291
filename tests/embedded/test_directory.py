"""Who may be where in the data directory, and that one product has it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from backend.embedded.directory import DataDirectory, dropped_uid, stored_secret
from backend.embedded.errors import InUse, Unreachable

_HOLD = """
import sys
from pathlib import Path
from backend.embedded.directory import DataDirectory
directory = DataDirectory(Path(sys.argv[1]))
directory.hold()
directory.announce("http://127.0.0.1:8700")
print("held", flush=True)
sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_others_may_pass_through_the_directory_but_enter_no_room(directory: DataDirectory) -> None:
    room = directory.room("service")
    assert (mode(directory.path), mode(room)) == (0o711, 0o700)


def test_a_room_is_given_to_its_own_uid_when_root_started(directory: DataDirectory) -> None:
    room = directory.room("postgres", dropped_uid(61101))
    assert room.stat().st_uid == (61101 if os.geteuid() == 0 else os.geteuid())


def test_a_second_product_is_refused_and_told_where_the_first_one_is(directory: DataDirectory) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(directory.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None and first.stdin is not None
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(InUse, match=rf"process {first.pid}, http://127.0.0.1:8700"):
            directory.hold()
        assert directory.held() and directory.address() == "http://127.0.0.1:8700"
        first.kill()
        first.wait()
        directory.hold()  # a killed product holds nothing
        directory.release()
        assert not directory.held()


def test_root_is_told_when_its_servers_could_not_enter_the_directory(tmp_path: Path) -> None:
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    inside = DataDirectory(closed / "data")
    if os.geteuid() == 0:
        with pytest.raises(Unreachable, match="VIBE_DATA_DIR"):
            inside.create()
    else:
        inside.create()
        assert mode(inside.path) == 0o711


def test_a_stored_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    first = stored_secret(tmp_path / "secret")
    assert stored_secret(tmp_path / "secret") == first and len(first) > 40
    assert mode(tmp_path / "secret") == 0o600
