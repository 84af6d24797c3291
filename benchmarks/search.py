"""How long a search takes in an account with many messages, and what search costs each insert.

`python -m benchmarks.search [--messages N]` makes a database of its own, fills it with words drawn as people use them (few often, many seldom),
asks, and prints quantiles.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg

from backend.agent.thread import search
from backend.cli.place import app_password
from backend.embedded.directory import POSTGRES_UID, DataDirectory, dropped_uid
from backend.embedded.postgres import Postgres
from backend.embedded.programs import postgres_binaries
from backend.kit.db import Database, app_dsn
from backend.kit.migrations import migrate

_SECRET = "a secret key of the benchmark"
_THREADS, _ROUNDS = 1000, 20
_WORDS = 30
# A word's rank is the exponential of an even number: rank r comes about 1/r as often as the first.
_FILL = f"""
    INSERT INTO messages (message_id, thread_id, account_id, seq, role, content, created_at)
    SELECT gen_random_uuid(), ($1::uuid[])[1 + n % {_THREADS}], $2, n, CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END,
           (SELECT string_agg('w' || floor(exp(random() * ln(50000.0)))::int, ' ') FROM generate_series(1, {_WORDS}) WHERE n > 0),
           now() - interval '1 year' + n * interval '10 s'
    FROM generate_series($3::int, $4::int) n"""
QUERIES = {
    "the commonest word": "w1", "two common words": "w3 w7", "a word of a thousandth": "w100", "a rare word": "w42000",
    "common and rare": "w1 w42000", "a phrase": '"w1 w2"', "a beginning": "w499", "nothing": "zebra",
}  # fmt: skip


async def fill(connection: "asyncpg.Connection[asyncpg.Record]", account: UUID, messages: int) -> None:
    """One account's threads and messages."""
    agent, threads = uuid4(), [uuid4() for _ in range(_THREADS)]
    await connection.execute("INSERT INTO accounts (account_id, name) VALUES ($1, 'benchmark')", account)
    await connection.execute("INSERT INTO agents (agent_id, account_id, name) VALUES ($1, $2, 'benchmark')", agent, account)
    sql = "INSERT INTO threads (thread_id, agent_id, account_id, number) SELECT id, $2, $3, n FROM unnest($1::uuid[]) WITH ORDINALITY AS t (id, n)"
    await connection.execute(sql, threads, agent, account)
    index = await connection.fetchval("SELECT pg_get_indexdef('messages_search'::regclass)")
    await connection.execute("DROP INDEX messages_search")
    for begin in range(1, messages + 1, 50_000):
        await connection.execute(_FILL, threads, account, begin, min(begin + 49_999, messages))
    await connection.execute("SET maintenance_work_mem = '256MB'")
    await connection.execute(index)
    await connection.execute("VACUUM ANALYZE messages")


async def ask(database: Database, account: UUID) -> None:
    """Each kind of query many times."""
    for kind, q in QUERIES.items():
        took, hits = [], 0
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            async with database.transaction(account) as session:
                hits = len((await search.search(session, q, None, 20)).items)
            took.append((time.perf_counter() - began) * 1000)
        took.sort()
        print(f"{kind:24} {hits:3} hits   p50 {took[_ROUNDS // 2]:7.1f} ms   p95 {took[int(_ROUNDS * 0.95) - 1]:7.1f} ms   worst {took[-1]:7.1f} ms")


async def inserts(connection: "asyncpg.Connection[asyncpg.Record]", account: UUID, messages: int) -> None:
    """Microseconds of Postgres for one message, inserted alone, with and without what search needs."""
    thread = await connection.fetchval("SELECT thread_id FROM threads LIMIT 1")
    sql = "INSERT INTO messages (message_id, thread_id, account_id, seq, role, content) VALUES (gen_random_uuid(), $1, $2, $3, $4, $5)"
    text = " ".join(f"w{n * n % 50_000}" for n in range(120))
    cases = (("tool result (not searched)", "tool", None), ("answer of 120 words", "assistant", None), ("the same, no search index", "assistant", "DROP INDEX messages_search"))
    for n, (what, role, change) in enumerate(cases, 1):
        if change:
            await connection.execute(change)
        statement = await connection.prepare(sql)
        began = time.perf_counter()
        for seq in range(3000):
            await statement.fetch(thread, account, messages + n * 10_000 + seq, role, text)
        print(f"{what:28} {(time.perf_counter() - began) / 3000 * 1e6:7.0f} us an insert with its commit")


async def measure(directory: DataDirectory, messages: int) -> None:
    """All of it, in a database that is thrown away."""
    uid = dropped_uid(POSTGRES_UID)
    postgres = Postgres(
        directory.room("postgres", uid), postgres_binaries(directory.programs()), directory.room("logs") / "postgres.log", uid=uid, options={"fsync": "off"}
    )
    admin_dsn = await postgres.start()
    try:
        await migrate(admin_dsn, app_password(_SECRET))
        connection, account = await asyncpg.connect(admin_dsn), uuid4()
        began = time.perf_counter()
        await fill(connection, account, messages)
        print(f"{messages:,} messages of {_WORDS} words, filled in {time.perf_counter() - began:.0f} s")
        database = await Database.connect(app_dsn(admin_dsn, app_password(_SECRET)), size=1)
        await ask(database, account)
        await database.close()
        await inserts(connection, account, messages)
        await connection.close()
    finally:
        await postgres.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    messages: int = parser.parse_args().messages
    path = Path(tempfile.mkdtemp(prefix="vibe-search-"))
    directory = DataDirectory(path)
    directory.create()
    try:
        asyncio.run(measure(directory, messages))
    finally:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main()
