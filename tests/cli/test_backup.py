"""The drill: a running product is backed up, brought back elsewhere, and is the same."""

import http.client
import io
import json
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from backend.embedded.directory import DataDirectory
from backend.sandbox.protocol import Limits
from backend.sandbox.volumes import Volumes, unmount
from tests.product import Product, belonging, end, rows

PASSWORD = "correct horse battery"


@pytest.fixture
def elsewhere(cluster: Path) -> Iterator[Product]:
    """A place where nothing is yet."""
    path = Path(tempfile.mkdtemp(prefix="vibe-elsewhere-"))
    DataDirectory(path).create()
    made = Product(path)
    yield made
    made.close()
    end(belonging(path))
    for files in path.glob("workspaces/*/files"):
        unmount(files)
    shutil.rmtree(path)


def login(address: str) -> int:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    body = json.dumps({"email": "ann@example.org", "password": PASSWORD})
    headers = {"Content-Type": "application/json", "Origin": f"http://{parts.netloc}"}
    connection.request("POST", "/api/auth/login", body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


def ask(address: str, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[bytes, str]:
    """An answer's body and cookie."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request(method, path, body, {"Content-Type": "application/json", "Origin": f"http://{parts.netloc}", **headers})
    answer = connection.getresponse()
    data, cookie = answer.read(), (answer.getheader("Set-Cookie") or "").partition(";")[0]
    connection.close()
    assert answer.status < 300, data
    return data, cookie


def work_in(path: Path) -> None:
    """What an agent leaves in a workspace: files, links, and a folder it has closed."""
    room = path / "workspaces"
    room.mkdir(mode=0o711, exist_ok=True)
    volume = Volumes(room).take("thread-1", Limits(disk_mb=16, inodes=500))
    (volume.files / "notes.md").write_text("kept\n")
    (volume.files / "link").symlink_to("/etc/hostname")
    (volume.files / "closed").mkdir(mode=0o700)
    (volume.files / "closed" / "data.bin").write_bytes(os.urandom(300_000))
    (volume.files / "closed").chmod(0)
    volume.release()


def read_back(path: Path) -> tuple[str, str, int]:
    volume = Volumes(path / "workspaces").take("thread-1", Limits(disk_mb=16, inodes=500))
    try:
        (volume.files / "closed").chmod(0o700)
        size = (volume.files / "closed" / "data.bin").stat().st_size
        return (volume.files / "notes.md").read_text(), os.readlink(volume.files / "link"), size
    finally:
        volume.release()


def owned(product: Product) -> str:
    address = product.start()
    made = product.vibe("owner", "create", "--email", "ann@example.org", "--name", "Ann", VIBE_OWNER_PASSWORD=PASSWORD)
    assert made.returncode == 0, made.stderr
    return address.partition("/setup")[0]


def test_a_running_product_comes_back_elsewhere_as_it_was(product: Product, elsewhere: Product, tmp_path: Path) -> None:
    address = owned(product)
    assert login(address) == 200
    work_in(product.path)
    _, cookie = ask(address, "POST", "/api/auth/login", json.dumps({"email": "ann@example.org", "password": PASSWORD}).encode())
    uploaded = json.loads(ask(address, "POST", "/api/attachments?name=kept.bin", b"kept with the rows", Cookie=cookie)[0])
    file = tmp_path / "vibe.backup"
    saved = product.vibe("backup", str(file))
    assert saved.returncode == 0, saved.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = rows(product.path)

    restored = elsewhere.vibe("restore", str(file))
    assert restored.returncode == 0, restored.stderr
    assert rows(elsewhere.path) == before and len(before["users"]) == 1
    assert read_back(elsewhere.path) == ("kept\n", "/etc/hostname", 300_000)
    address = elsewhere.start()
    assert login(address) == 200
    assert ask(address, "GET", f"/api/attachments/{uploaded['attachment_id']}", Cookie=cookie)[0] == b"kept with the rows"
    assert stat.S_IMODE((elsewhere.path / "blobs").stat().st_mode) == 0o700
    key = Path("service", "secret.key")
    assert (elsewhere.path / key).read_bytes() == (product.path / key).read_bytes()


@pytest.fixture
def file(product: Product, tmp_path: Path) -> Path:
    """A backup of a product with an owner."""
    made = product.vibe("owner", "create", "--email", "ann@example.org", "--name", "Ann", VIBE_OWNER_PASSWORD=PASSWORD)
    assert made.returncode == 0, made.stderr
    saved = product.vibe("backup", str(tmp_path / "vibe.backup"))
    assert saved.returncode == 0, saved.stderr
    return tmp_path / "vibe.backup"


def test_one_changed_byte_is_found_and_changes_nothing(file: Path, elsewhere: Product) -> None:
    content = bytearray(file.read_bytes())
    with tarfile.open(file) as archive:
        member = archive.getmember("database.dump")
    content[member.offset_data + member.size // 2] ^= 1
    file.write_bytes(content)
    refused = elsewhere.vibe("restore", str(file))
    assert refused.returncode == 1 and "database.dump" in refused.stderr
    assert not (elsewhere.path / "postgres").exists() and not (elsewhere.path / "restore.new").exists()


def test_half_a_backup_is_not_one(file: Path, elsewhere: Product) -> None:
    os.truncate(file, file.stat().st_size // 2)
    refused = elsewhere.vibe("restore", str(file))
    assert refused.returncode == 1 and "not a whole backup" in refused.stderr


def test_data_that_are_there_are_never_overwritten(file: Path, product: Product) -> None:
    before = rows(product.path)
    refused = product.vibe("restore", str(file))
    assert refused.returncode == 1 and "--force" in refused.stderr
    forced = product.vibe("restore", "--force", str(file))
    assert forced.returncode == 0, forced.stderr
    (aside,) = product.path.glob("before-restore-*")
    assert (aside / "postgres" / "18").is_dir() and (aside / "service" / "secret.key").exists()
    assert rows(product.path) == before


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "data/../../outside", "other/file", "data/service/link/inside"])
def test_an_archive_cannot_write_anywhere_else(name: str, elsewhere: Product, tmp_path: Path) -> None:
    file = tmp_path / "hostile.backup"
    with tarfile.open(file, "w") as archive:
        link = tarfile.TarInfo("data/service/link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    refused = elsewhere.vibe("restore", str(file))
    assert refused.returncode == 1
    assert not (tmp_path / "inside").exists() and not Path("/etc/outside").exists()
    assert not (elsewhere.path.parent / "outside").exists() and not (elsewhere.path / "service" / "link").exists()
