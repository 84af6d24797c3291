-- The statements of every turn, each a transaction of its own in one round trip. They act in the name of the account they are given, and row-level
-- security holds in them as it does anywhere else: they run as who calls them. What they name of branches comes with 0009: bodies are looked at when they are called.

CREATE FUNCTION act_for(p_account uuid) RETURNS void LANGUAGE sql
    AS $$ SELECT set_config('vibe.account_id', p_account::text, true) $$;

-- A run with all that running it needs.
CREATE FUNCTION load_run(p_account uuid, p_run uuid)
    RETURNS TABLE (run_id uuid, account_id uuid, thread_id uuid, agent_id uuid, version_id uuid, version integer, status text, model text,
                   input_message_id uuid, retry_of uuid, stop_requested_at timestamptz, problem jsonb, steps integer, losses integer, epoch integer,
                   input_tokens bigint, output_tokens bigint, cached_tokens bigint, cost_micro_usd bigint, cost_known boolean, created_at timestamptz,
                   started_at timestamptz, finished_at timestamptz, journal_version integer, worked_seconds float8, config jsonb,
                   thread_number integer, title text, thread_tokens bigint, input_seq integer, default_model text, credentials jsonb, prices jsonb,
                   rules jsonb, branch integer)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM act_for(p_account);
    RETURN QUERY
        SELECT r.run_id, r.account_id, r.thread_id, r.agent_id, r.version_id, v.number, r.status, r.model, r.input_message_id, r.retry_of,
               r.stop_requested_at, r.problem, r.steps, r.losses, r.epoch, r.input_tokens, r.output_tokens, r.cached_tokens, r.cost_micro_usd,
               r.cost_known, r.created_at, r.started_at, r.finished_at, r.journal_version,
               extract(epoch FROM clock_timestamp() - r.started_at - r.waited)::float8,
               v.config, t.number, t.title,
               CASE WHEN r.branch = 0 THEN t.tokens ELSE (SELECT b.tokens FROM thread_branches b WHERE b.thread_id = r.thread_id AND b.branch = r.branch) END,
               m.seq, ac.default_model,
               (SELECT jsonb_object_agg(provider, jsonb_build_object('sealed', encode(sealed, 'base64'), 'base_url', base_url)) FROM credentials),
               (SELECT jsonb_object_agg(p.model, jsonb_build_array(input_price, output_price, cached_price)) FROM model_prices p),
               (SELECT jsonb_agg(jsonb_build_object('action', action, 'pattern', pattern, 'decision', decision))
                  FROM permission_rules pr WHERE pr.agent_id = r.agent_id),
               r.branch
        FROM runs r JOIN agent_versions v USING (version_id) JOIN threads t USING (thread_id) JOIN accounts ac ON ac.account_id = r.account_id
             JOIN messages m ON m.message_id = r.input_message_id
        WHERE r.run_id = p_run;
END $$;

-- The newest messages on a branch's path that lie above a place in its running token count; of one run and its question all. Other runs' reasoning
-- and receipts are left out: no model is sent them. The trunk, which nearly every thread is all of, is one walk along one index.
CREATE FUNCTION thread_history(p_account uuid, p_thread uuid, p_tokens_from bigint, p_limit integer, p_run uuid, p_question uuid, p_branch integer)
    RETURNS TABLE (message_id uuid, thread_id uuid, run_id uuid, parent_id uuid, seq integer, role text, content text, reasoning text, tool_calls jsonb,
                   tool_call_id text, tool_name text, status text, receipt jsonb, created_at timestamptz, tokens integer, tokens_upto bigint)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM act_for(p_account);
    IF p_branch = 0 THEN
        RETURN QUERY
            SELECT * FROM (
                SELECT m.message_id, m.thread_id, m.run_id, m.parent_id, m.seq, m.role::text, m.content, CASE WHEN m.run_id = p_run THEN m.reasoning ELSE '' END,
                       m.tool_calls, m.tool_call_id, m.tool_name, m.status, CASE WHEN m.run_id = p_run THEN m.receipt END, m.created_at, m.tokens, m.tokens_upto
                FROM messages m WHERE m.thread_id = p_thread AND m.branch = 0 AND NOT m.discarded AND m.seq IS NOT NULL ORDER BY m.seq DESC LIMIT p_limit) newest
            WHERE newest.tokens_upto > p_tokens_from OR newest.run_id = p_run OR newest.message_id = p_question ORDER BY newest.seq;
    ELSE
        RETURN QUERY
            SELECT * FROM (
                SELECT m.message_id, m.thread_id, m.run_id, m.parent_id, m.seq, m.role::text, m.content, CASE WHEN m.run_id = p_run THEN m.reasoning ELSE '' END,
                       m.tool_calls, m.tool_call_id, m.tool_name, m.status, CASE WHEN m.run_id = p_run THEN m.receipt END, m.created_at, m.tokens, m.tokens_upto
                FROM branch_path(p_thread, p_branch) path CROSS JOIN LATERAL (
                    SELECT * FROM messages o WHERE o.thread_id = p_thread AND o.branch = path.branch AND o.seq <= path.upto AND NOT o.discarded
                    ORDER BY o.seq DESC LIMIT p_limit) m
                ORDER BY m.seq DESC LIMIT p_limit) newest
            WHERE newest.tokens_upto > p_tokens_from OR newest.run_id = p_run OR newest.message_id = p_question ORDER BY newest.seq;
    END IF;
END $$;

-- An answer with the journal's new lines, the approvals its calls need, the run's totals and, with p_end, the run's end. Nothing when the lease is lost.
CREATE FUNCTION save_answer(p_account uuid, p_run uuid, p_epoch integer, p_input bigint, p_output bigint, p_cached bigint, p_cost bigint, p_end text,
                            p_problem jsonb, p_tokens integer, p_message uuid, p_parent uuid, p_content text, p_reasoning text, p_calls jsonb,
                            p_status text, p_receipt jsonb, p_steps jsonb, p_approvals jsonb)
    RETURNS TABLE (message_id uuid, seq integer, created_at timestamptz, next_run uuid, title text)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM act_for(p_account);
    RETURN QUERY
        WITH own AS (
            UPDATE runs SET steps = runs.steps + 1, input_tokens = runs.input_tokens + p_input, output_tokens = runs.output_tokens + p_output,
                cached_tokens = runs.cached_tokens + p_cached, cost_micro_usd = runs.cost_micro_usd + coalesce(p_cost, 0),
                cost_known = runs.cost_known AND p_cost IS NOT NULL, status = coalesce(p_end, runs.status), problem = p_problem,
                finished_at = CASE WHEN p_end IS NOT NULL THEN clock_timestamp() END,
                lease_owner = CASE WHEN p_end IS NULL THEN runs.lease_owner END, lease_until = CASE WHEN p_end IS NULL THEN runs.lease_until END
            WHERE runs.run_id = p_run AND runs.epoch = p_epoch AND runs.status = 'running'
            RETURNING runs.thread_id, runs.account_id, runs.branch, CASE WHEN runs.discarded THEN 0 ELSE p_tokens END AS tokens, runs.discarded
        ), place AS (
            UPDATE threads t SET last_seq = last_seq + 1, tokens = t.tokens + CASE WHEN own.branch = 0 THEN own.tokens ELSE 0 END, updated_at = clock_timestamp()
            FROM own WHERE t.thread_id = own.thread_id RETURNING t.last_seq, t.tokens, t.title
        ), grown AS (
            UPDATE thread_branches b SET tokens = b.tokens + own.tokens FROM own
            WHERE own.branch > 0 AND b.thread_id = own.thread_id AND b.branch = own.branch RETURNING b.tokens
        ), answer AS (
            INSERT INTO messages (message_id, thread_id, account_id, run_id, branch, parent_id, seq, role, content, reasoning, tool_calls, status, receipt,
                                  tokens, tokens_upto, discarded)
            SELECT p_message, own.thread_id, own.account_id, p_run, own.branch, p_parent, place.last_seq, 'assistant', p_content, p_reasoning, p_calls, p_status,
                   p_receipt, p_tokens, coalesce((SELECT grown.tokens FROM grown), place.tokens), own.discarded
            FROM own, place RETURNING messages.message_id, messages.seq, messages.created_at
        ), journal AS (
            INSERT INTO run_steps (step_id, run_id, account_id, number, kind, name, call_id, message_id, effect, status, request_hash, idempotency_key,
                                   epoch, usage, cost_micro_usd, detail, started_at, finished_at)
            SELECT s.step_id, p_run, own.account_id, s.number, s.kind, s.name, s.call_id, p_message, s.effect, s.status, decode(s.request_hash, 'hex'),
                   s.idempotency_key, p_epoch, s.usage, s.cost_micro_usd, s.detail, s.started_at, s.finished_at
            FROM own, jsonb_to_recordset(p_steps) AS s(step_id uuid, number int, kind text, name text, call_id text, effect text, status text,
                 request_hash text, idempotency_key text, usage jsonb, cost_micro_usd bigint, detail jsonb, started_at timestamptz, finished_at timestamptz)
        )
        SELECT answer.message_id, answer.seq, answer.created_at, CASE WHEN p_end IS NOT NULL THEN
            (SELECT q.run_id FROM runs q, own WHERE q.thread_id = own.thread_id AND q.status = 'queued' ORDER BY q.created_at, q.run_id LIMIT 1) END,
            (SELECT place.title FROM place)
        FROM answer;
    IF FOUND AND p_approvals IS NOT NULL THEN
        INSERT INTO approvals (approval_id, account_id, run_id, thread_id, agent_id, call_id, action, arguments, act_hash, reason, pattern, status, expires_at)
        SELECT a.approval_id, p_account, a.run_id, a.thread_id, a.agent_id, a.call_id, a.action, a.arguments, a.act_hash, a.reason, a.pattern, 'pending',
               clock_timestamp() + make_interval(secs => a.expires_in)
        FROM jsonb_to_recordset(p_approvals) AS a(approval_id uuid, run_id uuid, thread_id uuid, agent_id uuid, call_id text, action text, arguments jsonb,
             act_hash text, reason text, pattern jsonb, expires_in float8)
        ON CONFLICT (run_id, call_id) DO NOTHING;
    END IF;
END $$;

-- Results of calls as messages, in order, and their lines of the journal. Nothing when the lease is lost.
CREATE FUNCTION save_results(p_account uuid, p_run uuid, p_epoch integer, p_results jsonb)
    RETURNS TABLE (message_id uuid, seq integer, created_at timestamptz)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM act_for(p_account);
    RETURN QUERY
        WITH own AS (
            SELECT runs.thread_id, runs.account_id, runs.branch, runs.discarded FROM runs
            WHERE runs.run_id = p_run AND runs.epoch = p_epoch AND runs.status = 'running' FOR UPDATE
        ), rows AS (
            SELECT m.*, row_number() OVER (ORDER BY m.n) AS place, sum(m.tokens) OVER (ORDER BY m.n) AS upto
            FROM jsonb_to_recordset(p_results) AS m(n int, message_id uuid, parent_id uuid, tool_call_id text, tool_name text, content text, status text,
                 receipt jsonb, tokens int, step text, started_at timestamptz)
        ), new AS (
            SELECT (SELECT count(*) FROM rows) AS places, CASE WHEN own.discarded THEN 0 ELSE (SELECT coalesce(sum(rows.tokens), 0) FROM rows) END AS tokens FROM own
        ), place AS (
            UPDATE threads t SET last_seq = last_seq + new.places, tokens = t.tokens + CASE WHEN own.branch = 0 THEN new.tokens ELSE 0 END,
                updated_at = clock_timestamp()
            FROM own, new WHERE t.thread_id = own.thread_id RETURNING t.last_seq - new.places AS seq0, t.tokens - new.tokens AS tokens0
        ), grown AS (
            UPDATE thread_branches b SET tokens = b.tokens + new.tokens FROM own, new
            WHERE own.branch > 0 AND b.thread_id = own.thread_id AND b.branch = own.branch RETURNING b.tokens - new.tokens AS tokens0
        ), results AS (
            INSERT INTO messages (message_id, thread_id, account_id, run_id, branch, parent_id, seq, role, content, tool_call_id, tool_name, status, receipt,
                                  tokens, tokens_upto, discarded)
            SELECT rows.message_id, own.thread_id, own.account_id, p_run, own.branch, rows.parent_id, place.seq0 + rows.place, 'tool', rows.content,
                   rows.tool_call_id, rows.tool_name, rows.status, rows.receipt, rows.tokens,
                   coalesce((SELECT grown.tokens0 FROM grown), place.tokens0) + rows.upto, own.discarded
            FROM own, place, rows RETURNING messages.message_id, messages.seq, messages.created_at
        ), journal AS (
            UPDATE run_steps s SET status = rows.step, started_at = coalesce(s.started_at, rows.started_at), finished_at = clock_timestamp(),
                message_id = rows.message_id
            FROM rows, own WHERE s.run_id = p_run AND s.call_id = rows.tool_call_id AND s.kind = 'tool_call'
        )
        SELECT results.message_id, results.seq, results.created_at FROM results;
END $$;

DO $$
DECLARE f regprocedure;
BEGIN
    FOR f IN SELECT p.oid::regprocedure FROM pg_proc p
             WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN ('act_for', 'load_run', 'thread_history', 'save_answer', 'save_results')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO vibe_app', f);
    END LOOP;
END $$;
