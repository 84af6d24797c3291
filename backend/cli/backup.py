"""`vibe backup` and `vibe restore`: the database, the secrets and the workspaces in one file that proves itself whole.

The file is a tar: `database.dump` (pg_dump's custom format), `data/…` (what the data directory keeps besides its
servers' own rooms) and, last, `manifest.json` with the SHA-256 of everything before it.
"""

import contextlib
import datetime
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from backend.cli.errors import Failure
from backend.cli.place import Place
from backend.embedded.process import Say
from backend.embedded.programs import postgres_binaries
from backend.kit.db import APP_ROLE, connect, driver_address
from backend.sandbox.protocol import Limits, SandboxBusy
from backend.sandbox.volumes import Volumes

FORMAT = 1
_DUMP = "database.dump"
_MANIFEST = "manifest.json"
# Rooms of the data directory that a backup leaves out: the servers' own files (the dump holds what matters), and logs.
_LEFT_OUT = frozenset({"postgres", "postgres.new", "valkey", "logs", "programs", "lock", "restore.new", "scratch"})
# What a restore neither moves aside nor counts as data.
_STAYS = frozenset({"logs", "programs", "lock", "restore.new", "scratch"})
_SPOOL = 1_000_000
WORKSPACES = "workspaces"


class BadBackup(Failure):
    """The file is not a whole backup of this product."""


class ToolFailed(Failure):
    """One of Postgres's tools could not do its work."""


class NotEmpty(Failure):
    """There is data already where the backup would go."""


async def back_up(place: Place, target: Path, say: Say) -> None:
    """Write everything to `target` (mode 0600), whole or not at all; the product may run meanwhile."""
    draft = target.with_name(f"{target.name}.part")
    async with place.database() as dsn:
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                with tarfile.open(fileobj=file, mode="w") as archive:
                    sums = await _write(archive, place, dsn, say)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(target)
        finally:
            draft.unlink(missing_ok=True)
    if place.settings.vibe_secret_key is not None:
        say("VIBE_SECRET_KEY comes from the environment and is not in the backup: keep it elsewhere.")
    say(f"{len(sums)} files, {target.stat().st_size // 1000} kB in {target}. It holds the secrets too: keep it private.")


async def restore(place: Place, source: Path, *, force: bool, say: Say) -> None:
    """Bring a backup into an empty place; with `force` what is there is moved aside first.

    All of it is built beside its place and moved there at the end, so a damaged backup changes nothing.
    """
    place.create()
    place.directory.hold()
    staging = place.directory.path / "restore.new"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(mode=0o711)
    try:
        _refuse_to_overwrite(place, force)
        unpacked = staging / "unpacked"
        unpacked.mkdir(mode=0o700)
        manifest = _extract(source, unpacked)
        say(f"the backup of {manifest['created_at']} is whole: {len(manifest['files'])} files")
        built = Place(place.settings.model_copy(update={"vibe_data_dir": staging / "built"}), say)
        built.create()
        _move(unpacked / "data", built.directory.path)
        await _restore_database(built, unpacked / _DUMP, say)
        _move_aside(place, say)
        _move(built.directory.path, place.directory.path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        place.directory.release()


async def _write(archive: tarfile.TarFile, place: Place, dsn: str, say: Say) -> dict[str, str]:
    sums: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder, _DUMP)
        say("dumping the database")
        _tool("pg_dump", dsn, "--format=custom", "--file", str(dump))
        sums[_DUMP] = _add(archive, dump, _DUMP)
    for path, name in _kept(place.directory.path):
        with contextlib.suppress(FileNotFoundError):  # an agent may delete a file of its workspace meanwhile
            sums[name] = _add(archive, path, name)
    manifest = {
        "format": FORMAT,
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "files": sums,
    }
    text = json.dumps(manifest, indent=1).encode()
    member = tarfile.TarInfo(_MANIFEST)
    member.size, member.mode = len(text), 0o600
    archive.addfile(member, io.BytesIO(text))
    return sums


def _kept(root: Path) -> Iterator[tuple[Path, str]]:
    """What of the data directory a backup takes, each with its name there: folders before what is in them."""
    for room in sorted(root.iterdir()):
        if room.name == WORKSPACES:
            yield room, f"data/{WORKSPACES}"
            yield from _workspaces(room)
        elif room.name not in _LEFT_OUT and not room.name.startswith("before-restore-"):
            yield from _tree(room, f"data/{room.name}")


def _workspaces(room: Path) -> Iterator[tuple[Path, str]]:
    """Workspaces by their files, whether they are plain folders or file systems of their own, mounted or not."""
    volumes = Volumes(room)
    for entry in sorted(room.iterdir()):
        name = f"data/{WORKSPACES}/{entry.name}"
        if not entry.is_dir():
            if entry.name == ".last":  # the number given to the last workspace
                yield entry, name
            continue
        with contextlib.ExitStack() as stack:
            # Somebody who has it open keeps it mounted; for everybody else it is mounted now.
            with contextlib.suppress(SandboxBusy):
                stack.callback(volumes.take(entry.name, Limits()).release)
            yield entry, name
            for part in sorted(entry.iterdir()):
                if part.name == "files":
                    # Through a descriptor, so that the tree stays whole when its holder unmounts it now.
                    held = os.open(part, os.O_RDONLY | os.O_DIRECTORY)
                    stack.callback(os.close, held)
                    yield part, f"{name}/files"
                    yield from _below(Path(f"/proc/self/fd/{held}"), f"{name}/files")
                elif part.name in ("number", "running"):
                    yield part, f"{name}/{part.name}"


def _tree(top: Path, name: str) -> Iterator[tuple[Path, str]]:
    yield top, name
    if top.is_dir() and not top.is_symlink():
        yield from _below(top, name)


def _below(folder: Path, name: str) -> Iterator[tuple[Path, str]]:
    _open_up(folder, stat.S_IRWXU)
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            yield from _tree(path, f"{name}/{path.name}")


def _open_up(path: Path, bits: int) -> None:
    """Let us read what an agent has closed to its owner; root reads anyway."""
    if os.geteuid() != 0 and not path.is_symlink():
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode | bits != mode:
                path.chmod(mode | bits)


def _add(archive: tarfile.TarFile, path: Path, name: str) -> str:
    """Add one thing; the SHA-256 of its content (of a link its target, of anything else nothing)."""
    member = archive.gettarinfo(path, name)
    if member is None or not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        return ""  # a socket or pipe holds nothing
    if member.islnk():  # the second name of a file is kept as a file of its own
        member.type, member.linkname = tarfile.REGTYPE, ""
    if not member.isreg():
        archive.addfile(member)
        return hashlib.sha256(member.linkname.encode()).hexdigest()
    with tempfile.SpooledTemporaryFile(_SPOOL) as copy:
        # Copied first, so that a file which grows while it is read is added with the size that was read.
        _open_up(path, stat.S_IRUSR)
        with path.open("rb") as file:
            digest = _copy(file, copy)
        member.size = copy.tell()
        copy.seek(0)
        archive.addfile(member, copy)
    return digest


def _copy(source: IO[bytes], target: Any) -> str:
    digest = hashlib.sha256()
    while block := source.read(1_000_000):
        digest.update(block)
        target.write(block)
    return digest.hexdigest()


def _extract(source: Path, staging: Path) -> dict[str, Any]:
    """Unpack into `staging` and compare every sum. Raises `BadBackup`."""
    sums: dict[str, str] = {}
    try:
        with tarfile.open(source, "r:") as archive:
            for member in archive:
                sums[member.name] = _unpack(archive, member, staging)
        manifest: dict[str, Any] = json.loads((staging / _MANIFEST).read_text())
    except (tarfile.TarError, OSError, ValueError) as error:
        raise BadBackup(f"{source} is not a whole backup: {error}") from error
    if manifest.get("format") != FORMAT:
        raise BadBackup(f"{source} has format {manifest.get('format')}; this version reads format {FORMAT}.")
    del sums[_MANIFEST]
    wanted = {name: digest for name, digest in manifest["files"].items() if digest}
    if sums != wanted:
        damaged = sorted(name for name in sums.keys() | wanted.keys() if sums.get(name) != wanted.get(name))
        raise BadBackup(f"{source} is damaged: {', '.join(damaged[:5])} differ from the manifest.")
    return manifest


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, staging: Path) -> str:
    """Unpack one member below `staging` and nowhere else, whatever names and links the archive holds."""
    parts = PurePosixPath(member.name).parts
    if not parts or parts[0] not in (_DUMP, _MANIFEST, "data") or ".." in parts:
        raise BadBackup(f"{member.name!r} does not belong into a backup")
    target = staging.joinpath(*parts)
    for parent in target.relative_to(staging).parents:
        if (staging / parent).is_symlink():
            raise BadBackup(f"{member.name!r} lies behind a link")
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        target.mkdir(exist_ok=True)
        digest = hashlib.sha256(b"").hexdigest()
    elif member.issym():
        target.symlink_to(member.linkname)
        digest = hashlib.sha256(member.linkname.encode()).hexdigest()
    elif member.isreg() and (content := archive.extractfile(member)) is not None:
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            digest = _copy(content, file)
    else:
        raise BadBackup(f"{member.name!r} is of a kind that no backup holds")
    _dress(target, member)
    return digest


def _dress(target: Path, member: tarfile.TarInfo) -> None:
    """Owner (as root) and mode of what was unpacked; never set-user-id."""
    if os.geteuid() == 0:
        os.chown(target, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        mode = member.mode & 0o777
        target.chmod(mode | stat.S_IRWXU if member.isdir() else mode)


def _present(place: Place) -> list[Path]:
    """What of a product's data is there already."""
    return [path for path in place.directory.path.iterdir() if path.name not in _STAYS and not _is_empty(path)]


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _refuse_to_overwrite(place: Place, force: bool) -> None:
    if not force and _present(place):
        raise NotEmpty(
            f"{place.directory.path} holds data already. Restore into a new VIBE_DATA_DIR, or use --force, which moves it aside."
        )


def _move_aside(place: Place, say: Say) -> None:
    if present := _present(place):
        aside = place.directory.path / f"before-restore-{datetime.datetime.now():%Y%m%d-%H%M%S}"
        aside.mkdir(mode=0o700)
        for path in present:
            path.rename(aside / path.name)
        say(f"what was there is now in {aside}")


def _move(source: Path, target: Path) -> None:
    """Move what lies in `source` into `target`, where nothing but empty folders may be in the way."""
    for path in source.iterdir() if source.exists() else ():
        if path.name not in _STAYS:
            if (target / path.name).is_dir():
                (target / path.name).rmdir()
            path.rename(target / path.name)


async def _restore_database(place: Place, dump: Path, say: Say) -> None:
    """Load the dump into the embedded Postgres, or into the empty database behind `DATABASE_URL`, and migrate it."""
    given = place.settings.database_url
    postgres = None if given else place.postgres()
    try:
        dsn = given.get_secret_value() if given else ""
        if postgres is not None:
            dsn = await postgres.start()
        await _make_ready(dsn)
        say("loading the database")
        _tool("pg_restore", dsn, "--no-owner", "--exit-on-error", "--single-transaction", str(dump))
        await place.migrate(dsn)
    finally:
        if postgres is not None:
            await postgres.stop()


async def _make_ready(dsn: str) -> None:
    """Refuse a database that holds tables; make the role that the dump grants rights to."""
    connection = await connect(dsn)
    try:
        if await connection.fetchval("SELECT 1 FROM pg_tables WHERE schemaname = 'public' LIMIT 1"):
            raise NotEmpty("The database behind DATABASE_URL holds tables already. Restore into an empty one.")
        if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", APP_ROLE):
            await connection.execute(f"CREATE ROLE {APP_ROLE} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE")
    finally:
        await connection.close()


def _tool(name: str, dsn: str, *arguments: str) -> None:
    """Run one of Postgres's tools on `dsn`. Raises `ToolFailed`.

    The wheel's speaks to every server up to its own version but without TLS; where that is asked for, the system's is tried.
    """
    parts = urlsplit(driver_address(dsn)[0])
    address = urlunsplit(parts._replace(netloc=f"{parts.username or ''}@{parts.netloc.rpartition('@')[2]}"))
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PGPASSWORD": unquote(parts.password or "")}
    error = ""
    for program in (postgres_binaries() / name, shutil.which(name)):
        if program is None:
            error += f" Install postgresql-client for a {name} that speaks TLS."
            break
        done = subprocess.run([program, "--dbname", address, *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        error = done.stderr.strip()[-2000:]
        if "ssl" not in error.lower():
            break
    raise ToolFailed(f"{name} failed: {error}")
