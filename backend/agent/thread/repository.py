"""SQL of threads, messages and the journal of a run.

Every write in a run's name first touches the run's row under its epoch: no row means that the lease is lost, and nothing is written.
The hot statements are one round trip each.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from backend.kit.db import Database, Row, Session

_UNDO = "interval '7 days'"  # how long a deletion can be taken back

# Threads --------------------------------------------------------------------------------------------------------------

_THREAD = """
    SELECT t.thread_id, t.agent_id, a.name AS agent_name, t.number, t.title, t.active_branch, t.pinned, t.archived, t.tags, t.created_at, t.updated_at,
           t.deleted_at,
           u.input_tokens, u.output_tokens, u.cost_micro_usd, u.cost_known
    FROM threads t JOIN agents a USING (agent_id)
    LEFT JOIN LATERAL (SELECT sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
                              sum(cost_micro_usd)::bigint AS cost_micro_usd, bool_and(cost_known) AS cost_known
                       FROM runs WHERE runs.thread_id = t.thread_id) u ON true
    WHERE t.account_id = $1"""


async def create_thread(session: Session, thread_id: UUID, agent_id: UUID, title: str, tags: Sequence[str] = ()) -> bool:
    """Insert a thread with the account's next number; False when the id is taken or there is no such agent."""
    sql = """
        WITH agent AS (SELECT 1 FROM agents WHERE agent_id = $3 AND deleted_at IS NULL),
             fresh AS (SELECT 1 FROM agent WHERE NOT EXISTS (SELECT 1 FROM threads WHERE thread_id = $1)),
             counted AS (UPDATE accounts SET last_thread_number = last_thread_number + 1
                         WHERE account_id = $2 AND EXISTS (SELECT 1 FROM fresh) RETURNING last_thread_number)
        INSERT INTO threads (thread_id, account_id, agent_id, number, title, title_by, tags)
        SELECT $1, $2, $3, last_thread_number, $4, CASE WHEN $4 = '' THEN 'auto' ELSE 'person' END, $5 FROM counted
        ON CONFLICT (thread_id) DO NOTHING"""
    return await session.execute(sql, thread_id, session.account_id, agent_id, title, list(tags)) == 1


async def seed(session: Session, thread_id: UUID, said: Sequence[dict[str, Any]]) -> None:
    """Write what was said elsewhere, in order, as the beginning of a thread that is still empty: each with its `n` (from 1), id, role, content, tokens."""
    sql = """
        WITH said AS (SELECT s.*, sum(s.tokens) OVER (ORDER BY s.n) AS upto, lag(s.message_id) OVER (ORDER BY s.n) AS before
                      FROM jsonb_to_recordset($3::jsonb) AS s(n int, message_id uuid, role text, content text, tokens int)),
             place AS (UPDATE threads t SET last_seq = new.places, tokens = new.tokens
                       FROM (SELECT count(*) AS places, coalesce(sum(said.tokens), 0) AS tokens FROM said) new
                       WHERE t.thread_id = $1 AND t.last_seq = 0 RETURNING 1)
        INSERT INTO messages (message_id, thread_id, account_id, parent_id, seq, role, content, tokens, tokens_upto)
        SELECT said.message_id, $1, $2, said.before, said.n, said.role, said.content, said.tokens, said.upto FROM said, place"""
    await session.execute(sql, thread_id, session.account_id, said)


async def thread(session: Session, thread_id: UUID) -> Row | None:
    """One thread with what its runs took."""
    return await session.row(_THREAD + " AND t.thread_id = $2 AND t.deleted_at IS NULL", session.account_id, thread_id)


_FILTERS = "($2::uuid IS NULL OR t.agent_id = $2) AND ($3::text IS NULL OR $3 = ANY (t.tags))"


async def threads(
    session: Session, agent_id: UUID | None, tag: str | None, archived: bool, before: tuple[bool, datetime, UUID] | None, limit: int
) -> list[Row]:
    """Threads, archived or not: pinned ones first, then the last touched."""
    sql = _THREAD + f""" AND t.deleted_at IS NULL AND t.archived = $4 AND {_FILTERS}
        AND ($5::bool IS NULL OR (t.pinned, t.updated_at, t.thread_id) < ($5, $6::timestamptz, $7::uuid))
        ORDER BY t.pinned DESC, t.updated_at DESC, t.thread_id DESC LIMIT $8"""
    return await session.fetch(sql, session.account_id, agent_id, tag, archived, *(before or (None, None, None)), limit)


async def deleted_threads(session: Session, agent_id: UUID | None, tag: str | None, before: tuple[datetime, UUID] | None, limit: int) -> list[Row]:
    """Threads that can be restored, the last deleted first."""
    sql = _THREAD + f""" AND t.deleted_at > now() - {_UNDO} AND {_FILTERS}
        AND ($4::timestamptz IS NULL OR (t.deleted_at, t.thread_id) < ($4, $5::uuid))
        ORDER BY t.deleted_at DESC, t.thread_id DESC LIMIT $6"""
    return await session.fetch(sql, session.account_id, agent_id, tag, *(before or (None, None)), limit)


async def update_thread(
    session: Session, thread_id: UUID, title: str | None, pinned: bool | None, archived: bool | None, tags: Sequence[str] | None
) -> bool:
    """Set what is not None; a title is the one that a person chose."""
    sql = """UPDATE threads SET title = coalesce($2, title), title_by = CASE WHEN $2::text IS NULL THEN title_by ELSE 'person' END,
        pinned = coalesce($3, pinned), archived = coalesce($4, archived), tags = coalesce($5::text[], tags) WHERE thread_id = $1 AND deleted_at IS NULL"""
    return await session.execute(sql, thread_id, title, pinned, archived, None if tags is None else list(tags)) == 1


async def restore_thread(session: Session, thread_id: UUID) -> bool:
    """Take back a deletion that is not too old, of a thread whose agent is there."""
    sql = f"""UPDATE threads SET deleted_at = NULL WHERE thread_id = $1 AND deleted_at > now() - {_UNDO}
        AND EXISTS (SELECT 1 FROM agents a WHERE a.agent_id = threads.agent_id AND a.deleted_at IS NULL)"""
    return await session.execute(sql, thread_id) == 1


async def delete_thread(session: Session, thread_id: UUID) -> bool:
    """Take a thread out of sight."""
    return await session.execute("UPDATE threads SET deleted_at = now() WHERE thread_id = $1 AND deleted_at IS NULL", thread_id) == 1


async def stop_runs(session: Session, thread_id: UUID) -> list[UUID]:
    """Ask a thread's live runs to stop; those that never began end here. Returns the ones that a worker has to end."""
    sql = """UPDATE runs SET stop_requested_at = coalesce(stop_requested_at, clock_timestamp()),
            wake_at = CASE WHEN status = 'waiting_approval' THEN clock_timestamp() ELSE wake_at END,
            status = CASE WHEN status = 'queued' THEN 'stopped' ELSE status END,
            finished_at = CASE WHEN status = 'queued' THEN clock_timestamp() ELSE finished_at END
        WHERE thread_id = $1 AND status IN ('queued', 'running', 'waiting_approval') RETURNING run_id, status"""
    return [row["run_id"] for row in await session.fetch(sql, thread_id) if row["status"] != "stopped"]


RUN = """r.run_id, r.thread_id, r.agent_id, v.number AS version, r.status, r.model, r.input_message_id, r.retry_of, r.stop_requested_at IS NOT NULL AS stop_requested,
    r.problem, r.steps, r.losses, r.input_tokens, r.output_tokens, r.cached_tokens, r.cost_micro_usd, r.cost_known, r.created_at, r.started_at, r.finished_at"""


async def active_runs(session: Session, thread_ids: Sequence[UUID]) -> list[Row]:
    """Of each thread the run that is under way, else the one that waits longest."""
    sql = f"""SELECT DISTINCT ON (r.thread_id) {RUN} FROM runs r JOIN agent_versions v USING (version_id)
        WHERE r.thread_id = ANY ($1) AND r.status IN ('queued', 'running', 'waiting_approval')
        ORDER BY r.thread_id, r.status = 'queued', r.created_at, r.run_id"""
    return await session.fetch(sql, list(thread_ids))


async def gone_threads(session: Session, thread_ids: Sequence[UUID]) -> list[UUID]:
    """Which of these were deleted more than a week ago, over all accounts."""
    return [row["thread_id"] for row in await session.fetch("SELECT thread_id FROM gone_threads($1)", list(thread_ids))]


# Messages -------------------------------------------------------------------------------------------------------------

MESSAGE = """message_id, thread_id, run_id, parent_id, seq, role, content, reasoning, tool_calls, tool_call_id, tool_name, status, receipt,
    created_at"""


async def messages(session: Session, thread_id: UUID, branch: int, before_seq: int | None, limit: int) -> list[Row]:
    """Messages on a branch's path that count, newest first; the ones whose turn has not begun only on the first page."""
    sql = f"""SELECT m.* FROM (
            (SELECT {MESSAGE}, branch FROM messages
             WHERE $3::int IS NULL AND thread_id = $1 AND branch = $2 AND seq IS NULL AND NOT discarded ORDER BY created_at DESC LIMIT $4)
            UNION ALL
            (SELECT placed.* FROM branch_path($1, $2) path CROSS JOIN LATERAL (
                SELECT {MESSAGE}, branch FROM messages o
                WHERE o.thread_id = $1 AND o.branch = path.branch AND o.seq <= least(path.upto, $3::int - 1) AND NOT o.discarded
                ORDER BY o.seq DESC LIMIT $4) placed)) m
        ORDER BY m.seq DESC NULLS FIRST, m.created_at DESC LIMIT $4"""
    return await session.fetch(sql, thread_id, branch, before_seq, limit)


async def place_of_message(session: Session, thread_id: UUID, message_id: UUID) -> Row | None:
    """Branch and seq of a message that counts; None when the thread has no such message."""
    return await session.row("SELECT branch, seq FROM messages WHERE message_id = $2 AND thread_id = $1 AND NOT discarded", thread_id, message_id)


async def path_ids(session: Session, thread_id: UUID, branch: int, upto_seq: int) -> list[UUID]:
    """The messages on a branch's path up to and with one, oldest first."""
    sql = """SELECT m.message_id FROM branch_path($1, $2) path
        JOIN messages m ON m.thread_id = $1 AND m.branch = path.branch AND m.seq <= least(path.upto, $3) AND NOT m.discarded ORDER BY m.seq"""
    return [row["message_id"] for row in await session.fetch(sql, thread_id, branch, upto_seq)]


async def copy_messages(session: Session, from_thread: UUID, to_thread: UUID, old: Sequence[UUID], new: Sequence[UUID]) -> None:
    """Copies of messages under new ids, as the whole trunk of another thread. They belong to no run."""
    sql = """
        WITH path AS (SELECT m.*, p.new_id, p.n, lag(p.new_id) OVER (ORDER BY p.n) AS before, sum(m.tokens) OVER (ORDER BY p.n) AS upto
                      FROM unnest($3::uuid[], $4::uuid[]) WITH ORDINALITY AS p (old_id, new_id, n)
                      JOIN messages m ON m.message_id = p.old_id AND m.thread_id = $1),
             copied AS (INSERT INTO messages (message_id, thread_id, account_id, parent_id, seq, role, content, reasoning, tool_calls, tool_call_id, tool_name,
                                              status, receipt, tokens, tokens_upto, created_at)
                        SELECT new_id, $2, account_id, before, n, role, content, reasoning, tool_calls, tool_call_id, tool_name, status, receipt, tokens,
                               upto, created_at FROM path)
        UPDATE threads SET last_seq = (SELECT max(n) FROM path), tokens = (SELECT max(upto) FROM path) WHERE thread_id = $2"""
    await session.execute(sql, from_thread, to_thread, list(old), list(new))


async def has_branch(session: Session, thread_id: UUID, branch: int) -> bool:
    """Whether a thread has this branch; the trunk, 0, is always there."""
    return branch == 0 or bool(await session.value("SELECT 1 FROM thread_branches WHERE thread_id = $1 AND branch = $2", thread_id, branch))


async def activate_branch(session: Session, thread_id: UUID, branch: int) -> None:
    """Go on with this branch."""
    await session.execute("UPDATE threads SET active_branch = $2 WHERE thread_id = $1", thread_id, branch)


async def versions(session: Session, thread_id: UUID, message_ids: Sequence[UUID]) -> list[Row]:
    """Of each of these messages that was said in several ways all versions that count, in order."""
    sql = """
        WITH shown AS MATERIALIZED (
            SELECT s.message_id, coalesce((SELECT b.origin_id FROM thread_branches b WHERE b.thread_id = $1 AND b.message_id = s.message_id),
                                          s.message_id) AS origin_id
            FROM unnest($2::uuid[]) AS s (message_id) WHERE EXISTS (SELECT 1 FROM thread_branches WHERE thread_id = $1)),
        families AS MATERIALIZED (
            SELECT message_id, ARRAY(
                SELECT v.message_id FROM (SELECT shown.origin_id AS message_id, 0 AS branch UNION ALL
                                          SELECT b.message_id, b.branch FROM thread_branches b WHERE b.thread_id = $1 AND b.origin_id = shown.origin_id) v
                WHERE (SELECT NOT m.discarded FROM messages m WHERE m.message_id = v.message_id) ORDER BY v.branch) AS versions FROM shown)
        SELECT message_id, versions FROM families WHERE cardinality(versions) > 1"""
    return await session.fetch(sql, thread_id, list(message_ids))


async def run_messages(session: Session, run_id: UUID, input_message_id: UUID) -> list[Row]:
    """What a run answers and has written so far."""
    sql = f"SELECT {MESSAGE} FROM messages WHERE (run_id = $1 OR message_id = $2) AND NOT discarded ORDER BY seq NULLS LAST"
    return await session.fetch(sql, run_id, input_message_id)


async def history(
    database: Database, account_id: UUID, thread_id: UUID, tokens_from: int, limit: int, run_id: UUID, input_message_id: UUID, branch: int
) -> list[Row]:
    """The newest messages on a branch's path whose place in its running token count lies above `tokens_from`, oldest first; of this run and its
    question all."""
    sql = "SELECT * FROM thread_history($1, $2, $3, $4, $5, $6, $7)"
    return await database.fetch(sql, account_id, thread_id, tokens_from, limit, run_id, input_message_id, branch)


# Search ---------------------------------------------------------------------------------------------------------------

MARK_BEGIN, MARK_END = "\ue000", "\ue001"  # around a match; taken out of the text before
_QUERY = "(websearch_to_tsquery('simple', $1) && CASE WHEN $2 = '' THEN ''::tsquery ELSE to_tsquery('simple', $2 || ':*') END)"


async def search(
    session: Session, head: str, prefix: str, agent_id: UUID | None, tag: str | None, before: tuple[datetime, UUID] | None, limit: int
) -> list[Row]:
    """Messages of the account that match, newest first; `prefix` is letters and digits alone, or nothing."""
    sql = f"""SELECT m.message_id, m.thread_id, t.agent_id, t.number AS thread_number, t.title, t.archived, m.branch, m.seq, m.role, m.created_at
        FROM search_messages({_QUERY}, $3, $4, $5, $6, $7) hit JOIN messages m USING (message_id) JOIN threads t ON t.thread_id = m.thread_id
        ORDER BY m.created_at DESC, m.message_id DESC"""
    return await session.fetch(sql, head, prefix, agent_id, tag, *(before or (None, None)), limit)


async def headlines(session: Session, head: str, prefix: str, message_ids: Sequence[UUID]) -> dict[UUID, str]:
    """The pieces of these messages that match, with marks around what was looked for."""
    options = f"StartSel={MARK_BEGIN}, StopSel={MARK_END}, MaxWords=40, MinWords=15"
    sql = f"""SELECT message_id, ts_headline('simple', translate(left(content, 20000), '{MARK_BEGIN}{MARK_END}', '  '), {_QUERY}, $4) AS text
        FROM messages WHERE message_id = ANY ($3)"""
    return {row["message_id"]: row["text"] for row in await session.fetch(sql, head, prefix, list(message_ids), options)}


# The journal ----------------------------------------------------------------------------------------------------------

async def load_run(database: Database, account_id: UUID, run_id: UUID) -> Row | None:
    """A run with all that running it needs: version, thread, credentials (sealed), prices, rules."""
    return await database.lookup("SELECT * FROM load_run($1, $2)", account_id, run_id)


async def begin_turn(session: Session, run_id: UUID, epoch: int, message_id: UUID) -> Row | None:
    """Give the waiting user message its place on its branch, behind those there whose runs ended before their turn; None when the lease is lost."""
    sql = """
        WITH own AS (SELECT thread_id, branch FROM runs WHERE run_id = $1 AND epoch = $2 AND status = 'running' FOR UPDATE),
             waiting AS (SELECT m.message_id, row_number() OVER turns AS place, lag(m.message_id) OVER turns AS before,
                                sum(CASE WHEN m.discarded THEN 0 ELSE m.tokens END) OVER turns AS upto
                         FROM messages m JOIN own USING (thread_id, branch)
                         WHERE m.seq IS NULL AND (m.message_id = $3 OR NOT m.discarded AND NOT EXISTS (
                             SELECT 1 FROM runs r WHERE r.input_message_id = m.message_id AND r.status IN ('queued', 'running', 'waiting_approval')))
                         WINDOW turns AS (ORDER BY m.message_id = $3, m.created_at, m.message_id)),
             new AS (SELECT count(*) AS places, max(upto) AS tokens FROM waiting),
             place AS (UPDATE threads t SET last_seq = last_seq + new.places, tokens = t.tokens + CASE WHEN own.branch = 0 THEN new.tokens ELSE 0 END
                       FROM own, new WHERE t.thread_id = own.thread_id RETURNING t.last_seq - new.places AS seq0, t.tokens - new.tokens AS tokens0),
             grown AS (UPDATE thread_branches b SET tokens = b.tokens + new.tokens FROM own, new
                       WHERE b.thread_id = own.thread_id AND b.branch = own.branch RETURNING b.tokens - new.tokens AS tokens0, b.fork_id),
             parent AS (SELECT p.message_id FROM messages p, own WHERE p.thread_id = own.thread_id AND p.branch = own.branch AND NOT p.discarded
                        AND p.seq IS NOT NULL ORDER BY p.seq DESC LIMIT 1),
             placed AS (UPDATE messages m SET seq = place.seq0 + waiting.place,
                            tokens_upto = coalesce((SELECT tokens0 FROM grown), place.tokens0) + waiting.upto,
                            parent_id = coalesce(waiting.before, (SELECT message_id FROM parent), (SELECT fork_id FROM grown))
                        FROM place, waiting WHERE m.message_id = waiting.message_id RETURNING m.message_id, m.seq, m.tokens_upto)
        SELECT seq, tokens_upto FROM placed WHERE message_id = $3"""
    return await session.row(sql, run_id, epoch, message_id)


async def steps(session: Session, run_id: UUID) -> list[Row]:
    """A run's journal in order."""
    return await session.fetch("SELECT * FROM run_steps WHERE run_id = $1 ORDER BY number", run_id)


async def approvals_of_run(session: Session, run_id: UUID) -> list[Row]:
    """Every approval a run asked for."""
    sql = "SELECT p.*, a.name AS agent_name FROM approvals p JOIN agents a USING (agent_id) WHERE run_id = $1 ORDER BY p.created_at"
    return await session.fetch(sql, run_id)


async def save_answer(
    database: Database,
    account_id: UUID,
    run_id: UUID,
    epoch: int,
    *,
    tokens_used: tuple[int, int, int],
    cost_micro_usd: int | None,
    end: str | None,
    problem: dict[str, Any] | None,
    message: dict[str, Any],
    steps: Sequence[dict[str, Any]],
    approvals: Sequence[dict[str, Any]],
) -> Row | None:
    """In one transaction: the assistant's message, the journal's new lines, the approvals that wait for a person, the run's totals and, with `end`,
    the run's end.

    Returns seq and time of the message; None when the lease is lost.
    """
    return await database.lookup(
        "SELECT * FROM save_answer($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
        account_id,
        run_id,
        epoch,
        *tokens_used,
        cost_micro_usd,
        end,
        problem,
        message["tokens"],
        message["message_id"],
        message["parent_id"],
        message["content"],
        message["reasoning"],
        message["tool_calls"] or None,
        message["status"],
        message["receipt"],
        list(steps),
        list(approvals) or None,
    )


async def save_results(on: Database | Session, account_id: UUID, run_id: UUID, epoch: int, results: Sequence[dict[str, Any]]) -> list[Row]:
    """In one transaction: tool results as messages, in order, and their lines of the journal. Empty when the lease is lost."""
    return await on.fetch("SELECT * FROM save_results($1, $2, $3, $4)", account_id, run_id, epoch, list(results))


async def save_intent(session: Session, run_id: UUID, epoch: int, call_id: str, act_hash: str) -> bool:
    """Before an effect: its journal line becomes `started`, and its approval, if it has one, is used up. False when the lease is lost."""
    sql = """
        WITH own AS (SELECT 1 FROM runs WHERE run_id = $1 AND epoch = $2 AND status = 'running' FOR UPDATE),
             used AS (UPDATE approvals SET status = 'used' FROM own WHERE run_id = $1 AND call_id = $3 AND status = 'approved' AND act_hash = $4)
        UPDATE run_steps SET status = 'started', started_at = clock_timestamp(), epoch = $2, attempts = attempts + (status = 'started')::int
        FROM own WHERE run_id = $1 AND call_id = $3 AND kind = 'tool_call'"""
    return await session.execute(sql, run_id, epoch, call_id, act_hash) == 1


async def expire_approvals(session: Session, run_id: UUID) -> None:
    """Waiting approvals whose time is over become `expired`."""
    await session.execute("UPDATE approvals SET status = 'expired' WHERE run_id = $1 AND status = 'pending' AND expires_at <= clock_timestamp()", run_id)


async def void_approval(session: Session, run_id: UUID, epoch: int, call_id: str) -> bool:
    """An approval of another act than the one at hand is worth nothing. False when the lease is lost."""
    sql = """
        WITH own AS (SELECT 1 FROM runs WHERE run_id = $1 AND epoch = $2 AND status = 'running' FOR UPDATE),
             void AS (UPDATE approvals SET status = 'void' FROM own WHERE run_id = $1 AND call_id = $3 AND status IN ('pending', 'approved'))
        SELECT 1 FROM own"""
    return await session.value(sql, run_id, epoch, call_id) is not None


async def wait_for_approval(session: Session, run_id: UUID, epoch: int) -> bool | None:
    """Let go of the run until someone answers. True when it waits, False when all answers are there already, None when the lease is lost."""
    own = await session.value("SELECT 1 FROM runs WHERE run_id = $1 AND epoch = $2 AND status = 'running' FOR UPDATE", run_id, epoch)
    if own is None:
        return None
    sql = """
        WITH pending AS (SELECT min(expires_at) AS until FROM approvals WHERE run_id = $1 AND status = 'pending')
        UPDATE runs SET status = 'waiting_approval', waiting_since = clock_timestamp(), wake_at = pending.until, lease_owner = NULL, lease_until = NULL
        FROM pending WHERE runs.run_id = $1 AND pending.until IS NOT NULL AND stop_requested_at IS NULL"""
    return await session.execute(sql, run_id) == 1


async def resume_waiting(session: Session, run_id: UUID) -> None:
    """Waiting for a person does not count as working: add it to what the run has waited."""
    sql = "UPDATE runs SET waited = waited + (clock_timestamp() - waiting_since), waiting_since = NULL WHERE run_id = $1 AND waiting_since IS NOT NULL"
    await session.execute(sql, run_id)


async def after_run(session: Session, thread_id: UUID) -> Row:
    """The thread's title, and the run that waits longest in it."""
    sql = """SELECT title, (SELECT run_id FROM runs WHERE runs.thread_id = $1 AND status = 'queued' ORDER BY created_at, run_id LIMIT 1) AS next_run
        FROM threads WHERE thread_id = $1"""
    row = await session.row(sql, thread_id)
    assert row is not None
    return row


async def placed(session: Session, run_id: UUID, epoch: int, message_ids: Sequence[UUID]) -> list[Row]:
    """Which of these messages this holder of the lease has written already, and where. Another holder's are not its own, although their ids are the same."""
    sql = """SELECT message_id, seq, created_at FROM messages WHERE message_id = ANY ($3)
        AND EXISTS (SELECT 1 FROM runs WHERE run_id = $1 AND epoch = $2)"""
    return await session.fetch(sql, run_id, epoch, list(message_ids))


async def end_run(session: Session, run_id: UUID, epoch: int, status: str, problem: dict[str, Any] | None) -> bool:
    """The run's end without a last answer; False when the lease is lost. Ending it twice in the same way is a no-op."""
    sql = """
        UPDATE runs SET status = $3, problem = $4::jsonb, finished_at = coalesce(finished_at, clock_timestamp()), lease_owner = NULL, lease_until = NULL
        WHERE run_id = $1 AND epoch = $2 AND status IN ('running', $3)"""
    ended = await session.execute(sql, run_id, epoch, status, problem) == 1
    if ended:
        await session.execute("UPDATE approvals SET status = 'void' WHERE run_id = $1 AND status IN ('pending', 'approved')", run_id)
    return ended
