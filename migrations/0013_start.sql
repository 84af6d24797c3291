-- The start of a run, a transaction of its own in one round trip, like the statements of 0006: a person's message and the run that answers it, at the
-- agent's active version. A message in a busy thread gets no place yet (`waits`). Nothing when there is no such thread, or the account has a message of
-- this id; an id that somebody else's message has is a unique_violation, which leaves no trace.
--
-- The thread is locked against other starters by no row of its own: workers lock a run before its thread, and whoever stops a run as he starts
-- another must be able to do the same. What follows the lock sees what whoever held it before has committed.

CREATE FUNCTION lock_thread(p_thread uuid) RETURNS void LANGUAGE sql
    AS $$ SELECT pg_advisory_xact_lock(hashtextextended(p_thread::text, 0)) $$;

CREATE FUNCTION start_run(p_account uuid, p_thread uuid, p_message uuid, p_content text, p_tokens integer, p_title text, p_run uuid, p_model text)
    RETURNS TABLE (run_id uuid, thread_id uuid, agent_id uuid, version integer, status text, model text, input_message_id uuid, retry_of uuid,
                   stop_requested boolean, problem jsonb, steps integer, losses integer, input_tokens bigint, output_tokens bigint, cached_tokens bigint,
                   cost_micro_usd bigint, cost_known boolean, created_at timestamptz, started_at timestamptz, finished_at timestamptz, waits boolean)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM act_for(p_account);
    PERFORM lock_thread(p_thread);
    RETURN QUERY
        WITH own AS MATERIALIZED (
            SELECT t.thread_id, t.agent_id, t.active_branch FROM threads t
            WHERE t.thread_id = p_thread AND t.deleted_at IS NULL AND NOT EXISTS (SELECT 1 FROM messages WHERE message_id = p_message)
        ), thread AS (
            SELECT own.thread_id, own.agent_id, own.active_branch AS branch, v.version_id, v.number
            FROM own JOIN agents a ON a.agent_id = own.agent_id AND a.deleted_at IS NULL
                 JOIN agent_versions v ON v.agent_id = a.agent_id AND v.number = a.active_version
        ), busy AS (
            SELECT EXISTS (SELECT 1 FROM runs WHERE thread_id = p_thread AND status IN ('queued', 'running', 'waiting_approval'))
                OR EXISTS (SELECT 1 FROM messages WHERE thread_id = p_thread AND seq IS NULL AND NOT discarded) AS waits
        ), head AS (
            SELECT coalesce(
                (SELECT m.message_id FROM messages m WHERE m.thread_id = p_thread AND m.branch = thread.branch AND NOT m.discarded AND m.seq IS NOT NULL
                 ORDER BY m.seq DESC LIMIT 1),
                (SELECT b.fork_id FROM thread_branches b WHERE b.thread_id = p_thread AND b.branch = thread.branch)) AS message_id
            FROM thread
        ), place AS (
            UPDATE threads t SET last_seq = last_seq + (NOT waits)::int, tokens = t.tokens + CASE WHEN waits OR thread.branch > 0 THEN 0 ELSE p_tokens END,
                title = CASE WHEN title = '' THEN p_title ELSE title END, updated_at = clock_timestamp()
            FROM busy, thread WHERE t.thread_id = thread.thread_id RETURNING t.last_seq, t.tokens, waits
        ), grown AS (
            UPDATE thread_branches b SET tokens = b.tokens + p_tokens FROM place, thread
            WHERE thread.branch > 0 AND NOT waits AND b.thread_id = thread.thread_id AND b.branch = thread.branch RETURNING b.tokens
        ), said AS (
            INSERT INTO messages (message_id, thread_id, account_id, branch, parent_id, seq, role, content, tokens, tokens_upto)
            SELECT p_message, p_thread, p_account, thread.branch, CASE WHEN NOT waits THEN (SELECT head.message_id FROM head) END,
                   CASE WHEN NOT waits THEN last_seq END, 'user', p_content, p_tokens,
                   CASE WHEN waits THEN 0 ELSE coalesce((SELECT grown.tokens FROM grown), place.tokens) END
            FROM place, thread RETURNING message_id
        ), r AS (
            INSERT INTO runs (run_id, account_id, thread_id, agent_id, version_id, input_message_id, model, branch, status)
            SELECT p_run, p_account, p_thread, thread.agent_id, thread.version_id, said.message_id, p_model, thread.branch, 'queued' FROM said, thread RETURNING *
        )
        SELECT r.run_id, r.thread_id, r.agent_id, thread.number, r.status, r.model, r.input_message_id, r.retry_of, r.stop_requested_at IS NOT NULL, r.problem,
               r.steps, r.losses, r.input_tokens, r.output_tokens, r.cached_tokens, r.cost_micro_usd, r.cost_known, r.created_at, r.started_at, r.finished_at,
               busy.waits
        FROM r, busy, thread;
END $$;

DO $$
DECLARE f regprocedure;
BEGIN
    FOR f IN SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN ('lock_thread', 'start_run')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO vibe_app', f);
    END LOOP;
END $$;
