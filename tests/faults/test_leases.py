"""Leases under any interleaving: one epoch writes, one run of a thread is live, and accounts take turns."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.agent.config import AgentConfig
from backend.agent.runs import repository, service
from backend.agent.schemas import NewRun, UserMessage
from backend.agent.thread import repository as threads
from backend.agent.thread.manager import LeaseLost, ThreadManager
from backend.kit.db import Database, DatabaseUnavailable, Row, Session
from tests.client import Person, owner
from tests.conftest import Servers

WORKERS, ACCOUNTS, THREADS, RUNS = 3, 2, 2, 2
_THREADS = ACCOUNTS * THREADS
_OPERATIONS = st.one_of(
    st.tuples(st.sampled_from(["claim", "write", "end"]), st.integers(0, WORKERS - 1), st.integers(0, _THREADS * RUNS - 1)),
    st.tuples(st.just("lose"), st.just(0), st.integers(0, _THREADS * RUNS - 1)),
    st.tuples(st.sampled_from(["beat", "leave"]), st.integers(0, WORKERS - 1), st.just(0)),
)
_MANY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture
async def admin(servers: Servers, clean: None) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection that sees every account; the tables are empty."""
    connection = await asyncpg.connect(servers.admin_dsn)
    yield connection
    await connection.close()


async def agent_of(database: Database, person: Person) -> UUID:
    """An agent by its rows alone."""
    agent_id, version_id = uuid4(), uuid4()
    config = AgentConfig(name="Tester")
    async with database.transaction(person.account_id) as session:
        await session.execute("INSERT INTO agents (agent_id, account_id, name) VALUES ($1, $2, 'Tester')", agent_id, person.account_id)
        sql = "INSERT INTO agent_versions (version_id, agent_id, account_id, number, content_hash, config) VALUES ($1, $2, $3, 1, $4, $5::jsonb)"
        await session.execute(sql, version_id, agent_id, person.account_id, config.content_hash(), config.canonical())
    return agent_id


async def start(database: Database, person: Person, thread_id: UUID) -> UUID:
    """A run whose wake-up is not sent."""
    async with database.transaction(person.account_id) as session:
        run = await service.start_within(session, thread_id, NewRun(message=UserMessage(message_id=uuid4(), content="work")))
        session.outbox.clear()
        return run.run_id


async def thread_of(database: Database, person: Person, agent_id: UUID) -> UUID:
    """A new thread."""
    thread_id = uuid4()
    async with database.transaction(person.account_id) as session:
        assert await threads.create_thread(session, thread_id, agent_id, "")
    return thread_id


async def answer(manager: ThreadManager, *, content: str = "an answer", end: str | None = None, message_id: UUID | None = None) -> None:
    """Write an assistant's message, and with `end` the run's end."""
    message: dict[str, Any] = {"message_id": message_id or uuid4(), "parent_id": None, "content": content, "reasoning": "", "tool_calls": [], "status": "ok",
                               "receipt": None, "tokens": 1}  # fmt: skip
    await manager.save_answer(message, tokens_used=(1, 1, 0), cost_micro_usd=0, end=end, problem=None, steps=[])


@dataclass
class Expected:
    """A run as the rules say it must be."""

    run_id: UUID
    thread_id: UUID
    account_id: UUID
    status: str = "queued"
    holder: int | None = None
    over: bool = False  # whether its lease has run out
    epoch: int = 0
    losses: int = 0
    written: int = 0


@dataclass
class Stage:
    """The database, what it must hold, and what each worker believes to hold."""

    database: Database
    admin: "asyncpg.Connection[asyncpg.Record]"
    runs: list[Expected]
    held: list[dict[int, ThreadManager]] = field(default_factory=lambda: [{} for _ in range(WORKERS)])

    async def claim(self, worker: int, n: int) -> None:
        run = self.runs[n]
        siblings = [(m, other) for m, other in enumerate(self.runs) if other.thread_id == run.thread_id and m != n]
        first = not any(other.status == "running" or (other.status == "queued" and m < n) for m, other in siblings)
        may = (run.status == "queued" and first) or (run.status == "running" and run.over)
        row = await repository.claim(self.database, run.run_id, f"w{worker}", timedelta(minutes=5), 100)
        assert (row is not None) == may
        if row is None:
            return
        run.losses += run.status == "running" and run.holder is not None
        run.status, run.holder, run.over, run.epoch = "running", worker, False, run.epoch + 1
        assert (row["epoch"], row["losses"]) == (run.epoch, run.losses)
        manager = self.held[worker][n] = ThreadManager(run.thread_id, self.database, run.account_id, run.run_id, row["epoch"])
        await manager.load(lambda _: 0)

    async def write(self, worker: int, n: int, end: str | None = None) -> None:
        run, manager = self.runs[n], self.held[worker].get(n)
        if manager is None:
            return
        if manager.epoch == run.epoch and run.status == "running":
            await answer(manager, end=end)
            run.written += 1
            run.status = end or run.status
        else:
            with pytest.raises(LeaseLost):
                await answer(manager, end=end)
            with pytest.raises(LeaseLost):
                await manager.save_results([], end="failed")

    async def end(self, worker: int, n: int) -> None:
        await self.write(worker, n, "completed")

    async def lose(self, _: int, n: int) -> None:
        run = self.runs[n]
        if run.status == "running":
            run.over = True
            await self.admin.execute("UPDATE runs SET lease_until = clock_timestamp() - interval '1 s' WHERE run_id = $1", run.run_id)

    async def beat(self, worker: int, _: int) -> None:
        held = self.held[worker]
        own = {n for n, manager in held.items() if self.runs[n].epoch == manager.epoch and self.runs[n].status == "running"}
        async with self.database.transaction(None) as session:
            kept = await repository.extend(session, f"w{worker}", [(m.run_id, m.epoch) for m in held.values()], timedelta(minutes=5))
        assert set(kept) == {self.runs[n].run_id for n in own}
        for n in own:
            self.runs[n].over = False

    async def leave(self, worker: int, _: int) -> None:
        own = [run for run in self.runs if run.status == "running" and run.holder == worker]
        async with self.database.transaction(None) as session:
            released = await repository.release(session, f"w{worker}")
        assert set(released) == {run.run_id for run in own}
        for run in own:
            run.holder, run.over, run.epoch = None, True, run.epoch + 1

    async def check(self) -> None:
        rows = {row["run_id"]: row for row in await self.admin.fetch("SELECT * FROM runs")}
        for run in self.runs:
            row = rows[run.run_id]
            assert (row["status"], row["epoch"], row["losses"], row["steps"]) == (run.status, run.epoch, run.losses, run.written)
        for thread_id in {run.thread_id for run in self.runs}:
            live = [run for run in self.runs if run.thread_id == thread_id and run.status == "running"]
            assert len(live) <= 1
            seqs = await self.admin.fetch("SELECT seq FROM messages WHERE thread_id = $1 AND seq IS NOT NULL ORDER BY seq", thread_id)
            assert [row["seq"] for row in seqs] == list(range(1, len(seqs) + 1))


@given(operations=st.lists(_OPERATIONS, max_size=30))
@_MANY
async def test_however_workers_claim_write_and_are_lost_one_epoch_writes(
    operations: list[tuple[str, int, int]], servers: Servers, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    database = await Database.connect(servers.dsn, size=2)
    try:
        await admin.execute("DELETE FROM accounts; DELETE FROM users")
        stage = Stage(database, admin, [])
        for person in [await another(admin) for _ in range(ACCOUNTS)]:
            agent_id = await agent_of(database, person)
            for _ in range(THREADS):
                thread_id = await thread_of(database, person, agent_id)
                stage.runs += [Expected(await start(database, person, thread_id), thread_id, person.account_id) for _ in range(RUNS)]
        for name, worker, n in operations:
            await getattr(stage, name)(worker, n)
        await stage.check()
    finally:
        await database.close()


async def another(admin: "asyncpg.Connection[asyncpg.Record]") -> Person:
    """Somebody with an account of his own."""
    account_id, user_id = uuid4(), uuid4()
    await admin.execute("INSERT INTO accounts (account_id, name) VALUES ($1, 'Another')", account_id)
    await admin.execute("INSERT INTO users (user_id, email, name) VALUES ($1, $2, 'Another')", user_id, f"{user_id}@example.org")
    return Person(account_id, user_id, "")


@given(accounts=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(0, 2)), min_size=1, max_size=5), limit=st.integers(1, 40))
@_MANY
async def test_what_is_due_comes_in_fair_turns_of_the_accounts(
    accounts: list[tuple[int, int, int]], limit: int, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await admin.execute("SET session_replication_role = replica; DELETE FROM runs")
    live: dict[UUID, int] = {}
    due: dict[UUID, UUID] = {}
    orphans: set[UUID] = set()
    sql = """INSERT INTO runs (run_id, account_id, thread_id, agent_id, version_id, input_message_id, status, lease_owner, lease_until, wake_at)
             VALUES ($1, $2, $1, $1, $1, $1, $3, $4, clock_timestamp() + $5, clock_timestamp() - interval '1 min')"""
    for running, waiting, lost in accounts:
        account = uuid4()
        live[account] = running
        for status, seconds, count in (("running", 60, running), ("queued", 0, waiting), ("running", -1, lost)):
            for _ in range(count):
                run = uuid4()
                await admin.execute(sql, run, account, status, "w" if status == "running" else None, timedelta(seconds=seconds))
                if seconds < 60:
                    due[run] = account
                if seconds < 0:
                    orphans.add(run)
    found = [row["run_id"] for row in await admin.fetch("SELECT run_id FROM due_runs($1)", limit)]
    assert len(found) == len(set(found)) == min(limit, len(due)) and set(found) <= set(due)
    assert set(found[: len(orphans)]) <= orphans, "what lost its worker comes first"
    queued = [due[run] for run in found if run not in orphans]
    left = {account: sum(due[run] == account and run not in orphans for run in due) for account in live}
    taken = {account: live[account] + sum(due[run] == account for run in orphans) for account in live}
    for account in queued:
        poorest = min(taken[other] for other in live if left[other])
        assert taken[account] == poorest, "an account with fewer live runs was passed over"
        taken[account] += 1
        left[account] -= 1


async def test_messages_sent_at_the_same_time_are_answered_in_the_order_in_which_they_got_into_the_thread(
    database: Database, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    person = await another(admin)
    thread_id = await thread_of(database, person, await agent_of(database, person))
    async with database.transaction(person.account_id) as session:
        await session.value("SELECT 1")  # this one begins first and gets into the thread second
        first = await start(database, person, thread_id)
        second = (await service.start_within(session, thread_id, NewRun(message=UserMessage(message_id=uuid4(), content="second")))).run_id
        session.outbox.clear()
    for run_id in (second, first):
        taken = await repository.claim(database, run_id, "w", timedelta(minutes=5), 100)
        assert (taken is not None) == (run_id == first)


class Forgetful(Database):
    """A connection that breaks around the next commit: before it, or after it but before its answer has come."""

    breaks: str = ""
    meanwhile: Callable[[], Awaitable[None]] | None = None

    @contextlib.asynccontextmanager
    async def transaction(self, account_id: UUID | None, *, steady: bool = False) -> AsyncIterator[Session]:
        async with self._breaking(), super().transaction(account_id, steady=steady) as session:
            yield session
            self._break_before()

    async def lookup(self, sql: str, *values: Any) -> Row | None:
        async with self._breaking():
            self._break_before()
            return await super().lookup(sql, *values)

    async def fetch(self, sql: str, *values: Any) -> list[Row]:
        async with self._breaking():
            self._break_before()
            return await super().fetch(sql, *values)

    def _break_before(self) -> None:
        if self.breaks == "before":
            self.breaks = ""
            raise DatabaseUnavailable

    @contextlib.asynccontextmanager
    async def _breaking(self) -> AsyncIterator[None]:
        if self.breaks == "instead":
            self.breaks = ""
            assert self.meanwhile is not None
            await self.meanwhile()
            raise DatabaseUnavailable
        yield
        if self.breaks == "after":
            self.breaks = ""
            if self.meanwhile is not None:
                await self.meanwhile()
            raise DatabaseUnavailable


@pytest.fixture
async def claimed(servers: Servers, database: Database) -> AsyncIterator[tuple[Forgetful, ThreadManager]]:
    """A run that a worker holds, over a connection that may break."""
    person = await owner(database)
    thread_id = await thread_of(database, person, await agent_of(database, person))
    run_id = await start(database, person, thread_id)
    forgetful = Forgetful((await Database.connect(servers.dsn, size=2))._pool)
    assert await repository.claim(forgetful, run_id, "w", timedelta(minutes=5), 100) is not None
    manager = ThreadManager(thread_id, forgetful, person.account_id, run_id, 1)
    await manager.load(lambda _: 0)
    yield forgetful, manager
    await forgetful.close()


@pytest.mark.parametrize("breaks", ["before", "after"])
async def test_an_answer_is_written_once_when_the_connection_breaks_around_its_commit(
    claimed: tuple[Forgetful, ThreadManager], admin: "asyncpg.Connection[asyncpg.Record]", breaks: str
) -> None:
    forgetful, manager = claimed
    forgetful.breaks = breaks
    await answer(manager, end="completed")
    assert await admin.fetchval("SELECT count(*) FROM messages WHERE role = 'assistant'") == 1
    row = await admin.fetchrow("SELECT steps, status FROM runs")
    assert row is not None and (row["steps"], row["status"]) == (1, "completed")


async def test_an_answer_that_another_worker_wrote_meanwhile_is_not_taken_for_ones_own(
    claimed: tuple[Forgetful, ThreadManager], database: Database, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    forgetful, manager = claimed
    message_id = uuid4()  # that both workers derive from the run

    async def another_worker_takes_over() -> None:
        await admin.execute("UPDATE runs SET lease_until = clock_timestamp() - interval '1 s'")
        row = await repository.claim(database, manager.run_id, "other", timedelta(minutes=5), 100)
        assert row is not None
        await answer(ThreadManager(manager.thread_id, database, row["account_id"], row["run_id"], row["epoch"]), content="the other's", message_id=message_id)

    forgetful.meanwhile = another_worker_takes_over
    forgetful.breaks = "instead"
    with pytest.raises(LeaseLost):
        await answer(manager, content="ours", message_id=message_id)
    assert await admin.fetchval("SELECT content FROM messages WHERE role = 'assistant'") == "the other's"
