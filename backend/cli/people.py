"""What the command line does in the owner's name: setup link, owner, keys."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from backend.accounts import service
from backend.accounts.schemas import CreatedApiKey, Email, NewApiKey, Password
from backend.cli.errors import Failure
from backend.cli.listen import is_loopback
from backend.cli.place import Place
from backend.kit.db import Database


class NoOwnerYet(Failure):
    """Other machines may come in only when there is an owner."""


async def has_owner(dsn: str) -> bool:
    """Whether this installation has an owner; `dsn` is the product's role."""
    async with _opened(dsn) as database:
        return not await service.setup_required(database)


async def open_to_others(dsn: str, host: str) -> None:
    """Raise `NoOwnerYet` when other machines could reach `host` before there is an owner; `dsn` is the product's role."""
    if not is_loopback(host) and not await has_owner(dsn):
        raise NoOwnerYet(
            f"{host} can be reached from other machines, and there is no owner yet: whoever comes first could become "
            "it. Start once without --host and open the printed address, or run `vibe owner create`."
        )


async def setup_token(dsn: str) -> str | None:
    """A new one-time token that creates the owner; None when there is one."""
    async with _opened(dsn) as database:
        return await service.issue_setup_token(database) if await service.setup_required(database) else None


async def setup_link(place: Place) -> str:
    """A new setup link of the product that runs here. Raises `Failure` when it does not run or has an owner."""
    address = place.directory.address()
    if address is None:
        raise Failure("The product does not run here: start it with `vibe up`, which prints the link.")
    async with _database(place) as database:
        return f"{address}/setup?token={await service.issue_setup_token(database)}"


async def create_owner(place: Place, email: str, name: str, password: str) -> None:
    """Make the owner. Raises `Failure` for an unusable email or password, `AlreadySetUp` when there is one."""
    _usable(email, password)
    async with _database(place) as database:
        await service.create_owner(database, email, name, password)


async def reset_password(place: Place, email: str, password: str) -> None:
    """Set a forgotten password. Raises `Failure` for an unusable one, `NotFound` when nobody has this email."""
    _usable(email, password)
    async with _database(place) as database:
        await service.reset_password(database, email, password)


def _usable(email: str, password: str) -> None:
    for kind, given, what in ((Email, email, "email"), (Password, password, "password")):
        try:
            TypeAdapter(kind).validate_python(given)
        except ValidationError as error:
            raise Failure(f"This {what} cannot be used: {error.errors()[0]['msg']}.") from None


async def new_key(place: Place, new: NewApiKey) -> CreatedApiKey:
    """A new API key of the owner's, with all there is to know of it. Raises `NoOwner`."""
    async with _database(place) as database:
        caller = await service.by_key(database, await service.local_key(database, cli_key_file(place)))
        if caller is None:
            raise service.NoOwner()
        async with database.transaction(caller.account_id) as session:
            return await service.create_key(session, caller.user_id, new)


async def cli_key(place: Place) -> str:
    """The key by which the command line on this machine proves who it is, from its 0600 file."""
    async with _database(place) as database:
        return await service.local_key(database, cli_key_file(place))


def cli_key_file(place: Place) -> Path:
    """Where the command line's key lies."""
    return place.directory.path / "service" / "cli.key"


@contextlib.asynccontextmanager
async def _database(place: Place) -> AsyncIterator[Database]:
    """The product's database, migrated, whether the product runs or not."""
    async with place.database() as dsn:
        await place.migrate(dsn)
        async with _opened(place.app_dsn(dsn)) as database:
            yield database


@contextlib.asynccontextmanager
async def _opened(dsn: str) -> AsyncIterator[Database]:
    database = await Database.connect(dsn, size=2)
    try:
        yield database
    finally:
        await database.close()
