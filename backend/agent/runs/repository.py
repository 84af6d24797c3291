"""SQL of runs as rows with a lease: starting, claiming, stopping, deciding."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from backend.agent.schemas import WITH_FILES
from backend.agent.thread.repository import RUN
from backend.kit.db import Database, Row, Session

_FROM = "FROM runs r JOIN agent_versions v USING (version_id)"
_LIVE = "('queued', 'running', 'waiting_approval')"


# Starting -------------------------------------------------------------------------------------------------------------


async def lock_thread(session: Session, thread_id: UUID) -> Row | None:
    """The thread with its agent's active version, locked against other starters."""
    await session.execute("SELECT lock_thread($1)", thread_id)
    sql = """
        SELECT t.thread_id, t.agent_id, t.title, v.version_id
        FROM threads t JOIN agents a ON a.agent_id = t.agent_id AND a.deleted_at IS NULL
        JOIN agent_versions v ON v.agent_id = a.agent_id AND v.number = a.active_version
        WHERE t.thread_id = $1 AND t.deleted_at IS NULL"""
    return await session.row(sql, thread_id)


async def live_runs(session: Session, thread_id: UUID) -> list[Row]:
    """Runs of a thread that have not ended, oldest first."""
    return await session.fetch(f"SELECT run_id, status, epoch FROM runs WHERE thread_id = $1 AND status IN {_LIVE} ORDER BY created_at, run_id", thread_id)


async def run_of_message(session: Session, message_id: UUID, thread_id: UUID) -> Row | None:
    """The run that was started with this message in this thread."""
    return await session.row(f"SELECT {RUN} {_FROM} WHERE r.input_message_id = $1 AND r.thread_id = $2 ORDER BY r.created_at LIMIT 1", message_id, thread_id)


class Start(NamedTuple):
    """A person's message, about `tokens` long, and the run that answers it."""

    thread_id: UUID
    message_id: UUID
    content: str
    tokens: int
    title: str
    run_id: UUID
    model: str | None


_START = "SELECT * FROM start_run($1, $2, $3, $4, $5, $6, $7, $8)"


async def start_at_once(database: Database, account_id: UUID, new: Start) -> Row | None:
    """Start a run in one round trip. A message in a busy thread gets no place yet (`waits`). None when its id is known, or the thread is not."""
    return await database.lookup(_START, account_id, *new)


async def start(session: Session, new: Start) -> Row | None:
    """Start a run within a transaction, otherwise as `start_at_once`."""
    return await session.row(_START, session.account_id, *new)


async def mark_files(session: Session, message_id: UUID) -> None:
    """Say of a message that it brought files."""
    await session.execute("UPDATE messages SET tool_name = $2 WHERE message_id = $1", message_id, WITH_FILES)


async def add_run(session: Session, run_id: UUID, thread: Row, message_id: UUID, model: str | None, retry_of: UUID) -> Row:
    """Insert a queued run for a message that had one before, on the branch of the message."""
    sql = f"""
        WITH r AS (INSERT INTO runs (run_id, account_id, thread_id, agent_id, version_id, input_message_id, model, retry_of, branch, status)
                   SELECT $1, $2, $3, $4, $5, m.message_id, $7, $8, m.branch, 'queued' FROM messages m WHERE m.message_id = $6 RETURNING *)
        SELECT {RUN} FROM r JOIN agent_versions v USING (version_id)"""
    row = await session.row(sql, run_id, session.account_id, thread["thread_id"], thread["agent_id"], thread["version_id"], message_id, model, retry_of)
    assert row is not None
    return row


# Reading --------------------------------------------------------------------------------------------------------------


async def run(session: Session, run_id: UUID) -> Row | None:
    """One run."""
    return await session.row(f"SELECT {RUN}, r.epoch, r.branch {_FROM} WHERE r.run_id = $1", run_id)


async def runs_of_thread(session: Session, thread_id: UUID, limit: int) -> list[Row]:
    """A thread's runs: the ones that have not ended first, then the newest."""
    sql = f"SELECT {RUN} {_FROM} WHERE r.thread_id = $1 ORDER BY (r.status IN {_LIVE}) DESC, r.created_at DESC LIMIT $2"
    return await session.fetch(sql, thread_id, limit)


async def place(session: Session, run_id: UUID) -> int:
    """How many queued runs stand before this one."""
    found: int = await session.value("SELECT queue_place($1)", run_id)
    return found


async def thread_exists(session: Session, thread_id: UUID) -> bool:
    """Whether the account has this thread."""
    return bool(await session.value("SELECT 1 FROM threads WHERE thread_id = $1 AND deleted_at IS NULL", thread_id))


# Stopping -------------------------------------------------------------------------------------------------------------


async def stop(session: Session, run_id: UUID) -> None:
    """Ask a run to stop. One that never began ends here; one that waits is woken to end."""
    await session.execute(
        """UPDATE runs SET stop_requested_at = coalesce(stop_requested_at, clock_timestamp()),
            wake_at = CASE WHEN status = 'waiting_approval' THEN clock_timestamp() ELSE wake_at END,
            status = CASE WHEN status = 'queued' THEN 'stopped' ELSE status END,
            finished_at = CASE WHEN status = 'queued' THEN clock_timestamp() ELSE finished_at END
        WHERE run_id = $1 AND status IN ('queued', 'running', 'waiting_approval')""",
        run_id,
    )


async def settle_input(session: Session, run_id: UUID) -> None:
    """A message whose run ended before its turn gets its place in an idle thread. In a busy one the next turn gives it one: a turn stays in one piece."""
    sql = f"""
        WITH waiting AS (SELECT m.message_id, m.thread_id, m.branch, m.tokens FROM messages m JOIN runs r ON r.input_message_id = m.message_id
                         WHERE r.run_id = $1 AND m.seq IS NULL AND NOT m.discarded
                           AND NOT EXISTS (SELECT 1 FROM runs o WHERE o.thread_id = m.thread_id AND o.status IN {_LIVE})),
             place AS (UPDATE threads t SET last_seq = last_seq + 1, tokens = t.tokens + CASE WHEN waiting.branch = 0 THEN waiting.tokens ELSE 0 END
                       FROM waiting WHERE t.thread_id = waiting.thread_id RETURNING t.last_seq, t.tokens),
             grown AS (UPDATE thread_branches b SET tokens = b.tokens + waiting.tokens FROM waiting
                       WHERE b.thread_id = waiting.thread_id AND b.branch = waiting.branch RETURNING b.tokens, b.fork_id),
             head AS (SELECT h.message_id FROM messages h, waiting
                      WHERE h.thread_id = waiting.thread_id AND h.branch = waiting.branch AND NOT h.discarded AND h.seq IS NOT NULL ORDER BY h.seq DESC LIMIT 1)
        UPDATE messages m SET seq = place.last_seq, tokens_upto = coalesce((SELECT grown.tokens FROM grown), place.tokens),
            parent_id = coalesce((SELECT message_id FROM head), (SELECT fork_id FROM grown))
        FROM place, waiting WHERE m.message_id = waiting.message_id"""
    await session.execute(sql, run_id)


async def discard(session: Session, run_id: UUID, *, with_input: bool) -> None:
    """Leave a run's messages out of the history: what it wrote and may still write, and with `with_input` what it answered."""
    sql = """
        WITH run AS (UPDATE runs SET discarded = true WHERE run_id = $1 RETURNING thread_id, branch, input_message_id),
             gone AS (UPDATE messages m SET discarded = true FROM run
                      WHERE (m.run_id = $1 OR ($2 AND m.message_id = run.input_message_id)) AND NOT m.discarded RETURNING m.seq, m.tokens),
             less AS (SELECT coalesce(sum(tokens), 0) AS tokens FROM gone WHERE seq IS NOT NULL),
             pruned AS (UPDATE thread_branches b SET tokens = b.tokens - less.tokens FROM run, less WHERE b.thread_id = run.thread_id AND b.branch = run.branch)
        UPDATE threads t SET tokens = t.tokens - less.tokens FROM run, less WHERE run.branch = 0 AND t.thread_id = run.thread_id"""
    await session.execute(sql, run_id, with_input)


async def newest_question(session: Session, thread_id: UUID, branch: int) -> UUID | None:
    """The last message of a person on a branch."""
    sql = """SELECT message_id FROM messages WHERE thread_id = $1 AND branch = $2 AND role = 'user' AND NOT discarded
        ORDER BY seq DESC NULLS FIRST, created_at DESC LIMIT 1"""
    found: UUID | None = await session.value(sql, thread_id, branch)
    return found


# Branches -------------------------------------------------------------------------------------------------------------


async def message_to_edit(session: Session, thread_id: UUID, message_id: UUID) -> Row | None:
    """A message that counts: who said it, where it stands, and the message of which it is a version."""
    sql = """SELECT m.role, m.branch, m.seq, coalesce(b.origin_id, m.message_id) AS origin_id FROM messages m
        LEFT JOIN thread_branches b ON b.thread_id = m.thread_id AND b.message_id = m.message_id
        WHERE m.message_id = $1 AND m.thread_id = $2 AND NOT m.discarded"""
    return await session.row(sql, message_id, thread_id)


async def add_branch(session: Session, thread_id: UUID, edited: Row, message_id: UUID) -> int:
    """A new branch beside a message, for another version of it; the thread goes on there."""
    sql = """
        WITH fork AS (SELECT m.branch, m.seq, m.message_id, m.tokens_upto
                      FROM branch_path($1, $3) path CROSS JOIN LATERAL (
                          SELECT * FROM messages o WHERE o.thread_id = $1 AND o.branch = path.branch AND o.seq <= path.upto AND o.seq < $4 AND NOT o.discarded
                          ORDER BY o.seq DESC LIMIT 1) m
                      ORDER BY m.seq DESC LIMIT 1),
             thread AS (UPDATE threads SET last_branch = last_branch + 1, active_branch = last_branch + 1 WHERE thread_id = $1 RETURNING last_branch)
        INSERT INTO thread_branches (thread_id, branch, account_id, parent_branch, fork_seq, fork_id, origin_id, message_id, tokens)
        SELECT $1, last_branch, $2, coalesce(fork.branch, 0), coalesce(fork.seq, 0), fork.message_id, $5, $6, coalesce(fork.tokens_upto, 0)
        FROM thread LEFT JOIN fork ON true RETURNING branch"""
    branch: int = await session.value(sql, thread_id, session.account_id, edited["branch"], edited["seq"], edited["origin_id"], message_id)
    return branch


async def has_forks(session: Session, run_id: UUID) -> bool:
    """Whether a branch goes on from what a run wrote."""
    sql = """SELECT EXISTS (SELECT 1 FROM runs r JOIN thread_branches b ON b.thread_id = r.thread_id AND b.parent_branch = r.branch
        JOIN messages m ON m.message_id = b.fork_id WHERE r.run_id = $1 AND m.run_id = $1)"""
    return bool(await session.value(sql, run_id))


# Leases ---------------------------------------------------------------------------------------------------------------


async def claim(database: Database, run_id: UUID, worker: str, lease: timedelta, account_bound: int) -> Row | None:
    """Take the lease of a run that is due or orphaned; None when there is nothing to take.

    The row is what `load_run` gives of it; run, account, thread and epoch are there even when that gives nothing (of two columns with one name
    the later one counts).
    """
    sql = """SELECT l.*, c.run_id, c.account_id, c.thread_id, c.epoch
        FROM claim_run($1, $2, $3, $4) c LEFT JOIN LATERAL load_run(c.account_id, c.run_id) l ON true"""
    return await database.lookup(sql, run_id, worker, lease, account_bound)


async def due(session: Session, limit: int) -> list[UUID]:
    """Runs that wait to be claimed, in fair turns."""
    return [row["run_id"] for row in await session.fetch("SELECT run_id FROM due_runs($1)", limit)]


async def extend(session: Session, worker: str, held: Sequence[tuple[UUID, int]], lease: timedelta) -> dict[UUID, bool]:
    """Keep the leases of live runs; says of each that is still the worker's whether it is to stop."""
    rows = await session.fetch("SELECT * FROM extend_leases($1, $2, $3, $4)", worker, [id for id, _ in held], [epoch for _, epoch in held], lease)
    return {row["run_id"]: row["stop_requested"] for row in rows}


async def release(session: Session, worker: str) -> list[UUID]:
    """Give all leases of a worker back."""
    return [row["run_id"] for row in await session.fetch("SELECT run_id FROM release_leases($1)", worker)]


async def state(database: Database, account_id: UUID, run_id: UUID) -> str | None:
    """How a run of this account stands; None when the account has no such run."""
    row = await database.lookup("SELECT status FROM run_state($1, $2)", account_id, run_id)
    return row["status"] if row else None


async def states(session: Session, run_ids: Sequence[UUID]) -> dict[UUID, str]:
    """How runs stand."""
    return {row["run_id"]: row["status"] for row in await session.fetch("SELECT run_id, status FROM run_states($1)", list(run_ids))}


# Approvals ------------------------------------------------------------------------------------------------------------

_APPROVAL = """SELECT p.approval_id, p.run_id, p.thread_id, p.agent_id, a.name AS agent_name, p.call_id, p.action, p.arguments, p.act_hash, p.reason, p.pattern,
    CASE WHEN p.status = 'pending' AND p.expires_at <= now() THEN 'expired' ELSE p.status END AS status, p.note, p.created_at, p.expires_at, p.decided_at
    FROM approvals p JOIN agents a USING (agent_id)"""


async def approval(session: Session, approval_id: UUID, *, lock: bool = False) -> Row | None:
    """One approval; to decide it, locked behind its run as the worker does it: the run either sees the answer, or is seen to wait for it."""
    if lock:
        await session.value("SELECT 1 FROM runs WHERE run_id = (SELECT run_id FROM approvals WHERE approval_id = $1) FOR UPDATE", approval_id)
    return await session.row(f"{_APPROVAL} WHERE p.approval_id = $1 {'FOR UPDATE OF p' if lock else ''}", approval_id)


async def approvals(session: Session, status: str | None, thread_id: UUID | None, before: tuple[Any, UUID] | None, limit: int) -> list[Row]:
    """Approvals of all threads or of one: the waiting ones oldest first, any others newest first."""
    order, sign = ("ASC", ">") if status == "pending" else ("DESC", "<")
    at, last = before or (None, None)
    waiting = "p.status = 'pending' AND p.expires_at > now()"
    sql = f"""{_APPROVAL} WHERE p.account_id = $5 AND ($1::text IS NULL OR CASE WHEN $1 = 'pending' THEN {waiting} ELSE p.status = $1 END)
        AND ($6::uuid IS NULL OR p.thread_id = $6)
        AND ($2::timestamptz IS NULL OR (p.created_at, p.approval_id) {sign} ($2, $3::uuid)) ORDER BY p.created_at {order}, p.approval_id {order} LIMIT $4"""
    return await session.fetch(sql, status, at, last, limit, session.account_id, thread_id)


async def decide(session: Session, approval_id: UUID, status: str, note: str, user_id: UUID | None) -> None:
    """Write a person's answer and wake the run that waits for it."""
    await session.execute(
        "UPDATE approvals SET status = $2, note = $3, decided_by = $4, decided_at = clock_timestamp() WHERE approval_id = $1", approval_id, status, note, user_id
    )
    await session.execute(
        """UPDATE runs SET wake_at = clock_timestamp() WHERE status = 'waiting_approval' AND run_id = (SELECT run_id FROM approvals WHERE approval_id = $1)""",
        approval_id,
    )


async def add_rule(session: Session, rule_id: UUID, agent_id: UUID, action: str, pattern: dict[str, Any], user_id: UUID | None) -> None:
    """Remember an "always" answer."""
    sql = "INSERT INTO permission_rules (rule_id, account_id, agent_id, action, pattern, decision, created_by) VALUES ($1, $2, $3, $4, $5::jsonb, 'allow', $6)"
    await session.execute(sql, rule_id, session.account_id, agent_id, action, pattern, user_id)
