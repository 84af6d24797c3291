"""Where the product lives on this machine: its data directory, its secret key, its database and its Valkey."""

import contextlib
from collections.abc import AsyncIterator

from pydantic import SecretStr

from backend.cli.errors import Failure
from backend.embedded.directory import POSTGRES_UID, VALKEY_UID, DataDirectory, dropped_uid
from backend.embedded.postgres import Postgres
from backend.embedded.process import Say
from backend.embedded.programs import postgres_binaries, valkey_binary
from backend.embedded.valkey import Valkey
from backend.kit import migrations
from backend.kit.db import app_dsn
from backend.kit.seal import Sealer, load_or_make_key
from backend.kit.settings import Settings


class NotHere(Failure):
    """What a command needs does not run here."""


class Place:
    """The data directory with what stands in it, as the settings say."""

    def __init__(self, settings: Settings, say: Say = print) -> None:
        self.settings, self._say = settings, say
        self.directory = DataDirectory(settings.vibe_data_dir)

    def create(self) -> None:
        """Make the data directory and the rooms that every start needs."""
        self.directory.create()
        for name in ("service", "logs"):
            self.directory.room(name)

    def secret_key(self) -> str:
        """`VIBE_SECRET_KEY`, or the one kept in the data directory, made there on first use."""
        if self.settings.vibe_secret_key is not None:
            return self.settings.vibe_secret_key.get_secret_value()
        return load_or_make_key(self.directory.path / "service" / "secret.key")

    def postgres(self) -> Postgres:
        """The embedded Postgres of this directory, not started."""
        uid = dropped_uid(POSTGRES_UID)
        return Postgres(
            self.directory.room("postgres", uid),
            postgres_binaries(self.directory.programs()),
            self.directory.room("logs") / "postgres.log",
            uid=uid,
            say=self._say,
        )

    def valkey(self) -> Valkey:
        """The embedded Valkey of this directory, not started."""
        uid = dropped_uid(VALKEY_UID)
        return Valkey(
            self.directory.room("valkey", uid),
            valkey_binary(self.directory.programs()),
            self.directory.room("logs") / "valkey.log",
            uid=uid,
            say=self._say,
        )

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """Address of the database, as the role that may migrate.

        It is `DATABASE_URL` when that is set; else the embedded one, which is started for the length of the block when
        the product does not run.
        """
        if self.settings.database_url is not None:
            yield self.settings.database_url.get_secret_value()
            return
        self.create()
        postgres = self.postgres()
        if self.directory.held():
            yield postgres.url
            return
        self.directory.hold()
        try:
            yield await postgres.start()
        finally:
            await postgres.stop()
            self.directory.release()

    async def migrate(self, dsn: str) -> list[str]:
        """Bring the database up to date and give the product's role its password; the names of what was applied."""
        try:
            return await migrations.migrate(dsn, app_password(self.secret_key()))
        except migrations.ChangedMigration as error:
            raise Failure(f"The database was made by another version of the product: {error}") from error

    def app_dsn(self, dsn: str) -> str:
        """`dsn` as the role that the product runs as."""
        return app_dsn(dsn, app_password(self.secret_key()))

    def settled(self) -> Settings:
        """Settings of a process of the product, with every address and the secret key in them.

        What is not set are the servers of the product that runs here. Raises `NotHere` when none does.
        """
        dsn = self.settings.database_url.get_secret_value() if self.settings.database_url else None
        redis_dsn = self.settings.redis_dsn
        if (dsn is None or redis_dsn is None) and not self.directory.held():
            missing = " and ".join(["DATABASE_URL"] * (dsn is None) + ["REDIS_URL"] * (redis_dsn is None))
            raise NotHere(f"Set {missing}, or start the product with `vibe up`, whose own servers are used then.")
        return self.settings.model_copy(
            update={
                "database_url": SecretStr(self.app_dsn(dsn or self.postgres().url)),
                "redis_url": SecretStr(redis_dsn or self.valkey().url),
                "vibe_secret_key": SecretStr(self.secret_key()),
            }
        )


def app_password(secret_key: str) -> str:
    """The password of the role that the product runs as: it follows from the secret key, so nobody has to keep it."""
    return Sealer(secret_key).derive("database role").hex()
