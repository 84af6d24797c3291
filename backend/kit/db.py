"""Postgres: one pool, and transactions in an account's name.

Every transaction says whose rows it may see (`SET LOCAL vibe.account_id`), and what it asks for with `enqueue` leaves after
its commit. SQL is written by hand over asyncpg: an ORM costs eight times as much a write and twenty-four a long read.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import orjson

from backend.kit import tasks
from backend.kit.problems import Unavailable

APP_ROLE = "vibe_app"
_STATEMENTS = 100  # that a connection keeps prepared
_POOLER_PORT = 6543  # Supabase's, for transactions
_SUPABASE_POOLER = ".pooler.supabase.com"
Row = Mapping[str, Any]  # asyncpg's Record is one in all but name

# What asyncpg raises when Postgres is down, starting, stopping or was lost in the middle.
LOST = (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.InterfaceError, asyncpg.TooManyConnectionsError,
        asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.InternalClientError, TimeoutError)  # fmt: skip
TAKEN = asyncpg.UniqueViolationError  # another row has what must be unique


class DatabaseUnavailable(Unavailable):
    """The database does not answer right now"""


class Session:
    """An open transaction. `account_id` is whose rows it sees; None sees only what the named functions across accounts return."""

    __slots__ = ("_connection", "account_id", "outbox")

    def __init__(self, connection: Any, account_id: UUID | None) -> None:
        self._connection = connection
        self.account_id = account_id
        self.outbox: list[tuple[str, dict[str, Any]]] = []

    async def fetch(self, sql: str, *values: Any) -> list[Row]:
        """All rows."""
        rows: list[Row] = await self._connection.fetch(sql, *values)
        return rows

    async def stream(self, sql: str, *values: Any, size: int = 200) -> AsyncIterator[list[Row]]:
        """All rows in batches, for what does not fit into memory at once."""
        cursor = await self._connection.cursor(sql, *values)
        while rows := await cursor.fetch(size):
            yield rows

    async def row(self, sql: str, *values: Any) -> Row | None:
        """The first row, or None."""
        row: Row | None = await self._connection.fetchrow(sql, *values)
        return row

    async def value(self, sql: str, *values: Any) -> Any:
        """The first column of the first row, or None."""
        return await self._connection.fetchval(sql, *values)

    async def execute(self, sql: str, *values: Any) -> int:
        """Run a statement; returns how many rows it touched."""
        tag: str = await self._connection.execute(sql, *values)
        count = tag.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row of values."""
        await self._connection.executemany(sql, rows)


def enqueue(session: Session, name: str, **values: Any) -> None:
    """Ask for a task by name; it leaves after the commit, and never when the transaction rolls back."""
    session.outbox.append((name, values))


class Database:
    """The pool. `transaction` is the only way in."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    @classmethod
    async def connect(cls, dsn: str, *, size: int = 10) -> "Database":
        """Open a pool of at most `size` connections to `dsn`; `DatabaseUnavailable` when nothing answers."""
        plain, pooled = driver_address(dsn)
        try:
            pool = await asyncpg.create_pool(
                plain,
                min_size=1,
                max_size=size,
                init=_prepare,
                reset=_keep,
                timeout=5,
                command_timeout=60,
                statement_cache_size=0 if pooled else _STATEMENTS,
            )
        except LOST as error:
            raise DatabaseUnavailable(str(error)) from error
        return cls(pool)

    async def close(self) -> None:
        """Close every connection."""
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def ping(self) -> None:
        """Return when Postgres answers; `DatabaseUnavailable` when it does not."""
        await self.lookup("SELECT 1")

    async def is_guarded(self) -> bool:
        """Whether row-level security binds the role that we are connected as."""
        row = await self.lookup("SELECT row_security_active('accounts') AS active")
        return bool(row and row["active"])

    async def lookup(self, sql: str, *values: Any) -> Row | None:
        """The first row of one statement that is a transaction of its own, in one round trip; see `fetch`."""
        try:
            async with self._pool.acquire() as connection:
                row: Row | None = await connection.fetchrow(sql, *values)
                return row
        except LOST as error:
            raise _unavailable() from error

    async def fetch(self, sql: str, *values: Any) -> list[Row]:
        """All rows of one statement that is a transaction of its own, in one round trip: a named function, which acts in the name of the account
        it is given, or is one of the few across accounts. Anything else sees nothing.
        """
        try:
            async with self._pool.acquire() as connection:
                rows: list[Row] = await connection.fetch(sql, *values)
                return rows
        except LOST as error:
            raise _unavailable() from error

    @contextlib.asynccontextmanager
    async def transaction(self, account_id: UUID | None, *, steady: bool = False) -> AsyncIterator[Session]:
        """A transaction in the account's name, committed at the end of the block and rolled back on an error.

        A `steady` one only reads, and all its reads see the same moment.
        """
        try:
            async with self._pool.acquire() as connection:
                session = Session(connection, account_id)
                owner = "" if account_id is None else str(account_id)
                begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if steady else "BEGIN"
                await connection.execute(f"{begin}; SET LOCAL vibe.account_id = '{owner}'")
                try:
                    yield session
                except BaseException:
                    if not connection.is_closed():
                        with contextlib.suppress(*LOST):
                            await connection.execute("ROLLBACK")
                    raise
                if await connection.execute("COMMIT") != "COMMIT":
                    raise RuntimeError("the transaction was already broken when it was committed")
        except LOST as error:
            raise _unavailable() from error
        for name, values in session.outbox:
            tasks.send(name, values)


def app_dsn(dsn: str, password: str) -> str:
    """`dsn` with the role that the product runs as, which row-level security binds. Supabase's pooler wants the project behind a role's name
    (`postgres.project`), so what stands there stays."""
    parts = urlsplit(dsn)
    who, _, host = parts.netloc.rpartition("@")
    project = who.partition(":")[0].partition(".")[2] if (parts.hostname or "").endswith(_SUPABASE_POOLER) else ""
    role = f"{APP_ROLE}.{project}" if project else APP_ROLE
    return urlunsplit(parts._replace(netloc=f"{role}:{quote(password, safe='')}@{host}"))


def driver_address(dsn: str) -> tuple[str, bool]:
    """`dsn` as the driver takes it, and whether a pooler of transactions (PgBouncer, Supavisor) stands before the server, which `pgbouncer=true` or
    port 6543 says. Behind one nothing outlives a transaction: no prepared statement and no lock of a session's."""
    parts = urlsplit(dsn)
    options = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in options if name != "pgbouncer"]
    pooled = parts.port == _POOLER_PORT or ("pgbouncer", "true") in options
    return (urlunsplit(parts._replace(query=urlencode(kept))) if len(kept) < len(options) else dsn), pooled


async def connect(dsn: str, **options: Any) -> Any:
    """A connection of one's own, as the driver opens it."""
    plain, pooled = driver_address(dsn)
    return await asyncpg.connect(plain, **(options | ({"statement_cache_size": 0} if pooled else {})))


def dumps(value: Any) -> str:
    """A value as JSON text for a jsonb parameter."""
    return orjson.dumps(value, default=str).decode()


def storable(text: str) -> str:
    """A text that Postgres can hold: it has no U+0000."""
    return text.replace("\0", "\ufffd") if "\0" in text else text


def _unavailable() -> DatabaseUnavailable:
    return DatabaseUnavailable("Postgres is restarting or cannot be reached; try again in a moment.")


async def _prepare(connection: Any) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=dumps, decoder=orjson.loads, format="text")


async def _keep(connection: Any) -> None:
    """Nothing to reset: a transaction sets things for itself alone (`SET LOCAL`)."""
