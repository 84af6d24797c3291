-- What a conversation can do: branches, pins, tags, search.

-- Branches ----------------------------------------------------------------------------------------------------------
-- A thread is a tree. A message belongs to one branch; branch 0 is the trunk and has no row here. The path of a branch is its own messages behind
-- those of its parent up to and with `fork_seq`; since `seq` only grows, a path is in the order of `seq`. Versions of one message are the message
-- itself (`origin_id`) and the first messages of the branches that name it. `tokens` are the sum along the whole path, as `threads.tokens` is for
-- the trunk.

CREATE TABLE thread_branches (
    thread_id     uuid NOT NULL REFERENCES threads ON DELETE CASCADE,
    branch        integer NOT NULL CHECK (branch > 0),
    account_id    uuid NOT NULL,
    parent_branch integer NOT NULL,
    fork_seq      integer NOT NULL,
    fork_id       uuid,
    origin_id     uuid NOT NULL,
    message_id    uuid NOT NULL,
    tokens        bigint NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (thread_id, branch),
    CHECK (parent_branch < branch)
) WITH (fillfactor = 80);
CREATE INDEX thread_branches_origin ON thread_branches (thread_id, origin_id);
CREATE INDEX thread_branches_message ON thread_branches (thread_id, message_id);
CREATE INDEX thread_branches_parent ON thread_branches (thread_id, parent_branch, fork_seq);

ALTER TABLE threads
    ADD COLUMN active_branch integer NOT NULL DEFAULT 0,
    ADD COLUMN last_branch   integer NOT NULL DEFAULT 0,
    ADD COLUMN pinned        boolean NOT NULL DEFAULT false,
    ADD COLUMN archived      boolean NOT NULL DEFAULT false,
    ADD COLUMN tags          text[] NOT NULL DEFAULT '{}';
DROP INDEX threads_account;
CREATE INDEX threads_account ON threads (account_id, archived, pinned DESC, updated_at DESC, thread_id DESC) WHERE deleted_at IS NULL;
CREATE INDEX threads_deleted ON threads (account_id, deleted_at DESC) WHERE deleted_at IS NOT NULL;

ALTER TABLE runs ADD COLUMN branch integer NOT NULL DEFAULT 0;

-- What is searched are the words of people and agents. Each vector also holds a word for its account, so that the index answers for one account
-- alone, whatever others write.
ALTER TABLE messages
    ADD COLUMN branch integer NOT NULL DEFAULT 0,
    ADD COLUMN search tsvector GENERATED ALWAYS AS (
        CASE WHEN role <> 'tool' THEN to_tsvector('simple', left(content, 20000)) || array_to_tsvector(ARRAY['@' || right(account_id::text, 12)]) END) STORED;
CREATE INDEX messages_branch ON messages (thread_id, branch, seq);
CREATE INDEX messages_account ON messages (account_id, created_at DESC, message_id DESC);
CREATE INDEX messages_search ON messages USING gin (search);

ALTER TABLE thread_branches ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON thread_branches USING (account_id = (SELECT vibe_account())) WITH CHECK (account_id = (SELECT vibe_account()));
GRANT SELECT, INSERT, UPDATE, DELETE ON thread_branches TO vibe_app;

-- The branches that a branch's path runs through, each with the last `seq` that counts. The limit makes each step one look into the primary key,
-- whatever the planner believes of a table that nobody has analyzed.
CREATE FUNCTION branch_path(p_thread uuid, p_branch integer) RETURNS TABLE (branch integer, upto integer)
    LANGUAGE sql STABLE ROWS 4 AS $$
    WITH RECURSIVE path (branch, upto) AS (
        SELECT p_branch, 2147483647
        UNION ALL
        SELECT b.parent_branch, least(path.upto, b.fork_seq) FROM path CROSS JOIN LATERAL (
            SELECT o.parent_branch, o.fork_seq FROM thread_branches o WHERE o.thread_id = p_thread AND o.branch = path.branch LIMIT 1) b
        WHERE path.branch > 0)
    SELECT path.branch, path.upto FROM path $$;

-- The statements of a turn, along branches --------------------------------------------------------------------------

DROP FUNCTION load_run(uuid, uuid);
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
DROP FUNCTION thread_history(uuid, uuid, bigint, integer, uuid, uuid);
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
CREATE OR REPLACE FUNCTION save_answer(p_account uuid, p_run uuid, p_epoch integer, p_input bigint, p_output bigint, p_cached bigint, p_cost bigint, p_end text,
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
CREATE OR REPLACE FUNCTION save_results(p_account uuid, p_run uuid, p_epoch integer, p_results jsonb)
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

-- Search ------------------------------------------------------------------------------------------------------------

-- Messages of the transaction's account that match, newest first. Row-level security would keep the planner from the index (`@@` is not leakproof).
-- Words that are used often are found by looking at the newest messages; what is not among these is rare enough to ask the index for all of it.
CREATE FUNCTION search_messages(p_query tsquery, p_agent uuid, p_tag text, p_at timestamptz, p_id uuid, p_limit integer)
    RETURNS TABLE (message_id uuid, created_at timestamptz)
    LANGUAGE plpgsql STABLE ROWS 20 SECURITY DEFINER SET search_path = public AS $$
#variable_conflict use_column
DECLARE
    account uuid := vibe_account();
    at timestamptz := coalesce(p_at, 'infinity');
    id uuid := coalesce(p_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
    narrowed tsquery := p_query && quote_literal('@' || right(account::text, 12))::tsquery;
    found_ids uuid[];
    found_at timestamptz[];
BEGIN
    IF account IS NULL OR numnode(p_query) = 0 THEN RETURN; END IF;
    SELECT array_agg(hit.message_id), array_agg(hit.created_at) INTO found_ids, found_at FROM (
        SELECT m.message_id, m.created_at FROM (
            SELECT n.message_id, n.thread_id, n.created_at, n.search, n.discarded FROM messages n
            WHERE n.account_id = account AND (n.created_at, n.message_id) < (at, id) ORDER BY n.created_at DESC, n.message_id DESC LIMIT 10000) m
        WHERE m.search @@ p_query AND NOT m.discarded
          AND (SELECT t.deleted_at IS NULL AND (p_agent IS NULL OR t.agent_id = p_agent) AND (p_tag IS NULL OR p_tag = ANY (t.tags))
               FROM threads t WHERE t.thread_id = m.thread_id)
        LIMIT p_limit) hit;
    IF coalesce(cardinality(found_ids), 0) >= p_limit THEN
        RETURN QUERY SELECT * FROM unnest(found_ids, found_at);
        RETURN;
    END IF;
    RETURN QUERY
        WITH hits AS MATERIALIZED (
            SELECT m.message_id, m.thread_id, m.created_at FROM messages m WHERE m.search @@ narrowed AND m.account_id = account AND NOT m.discarded)
        SELECT hits.message_id, hits.created_at FROM hits
        WHERE (hits.created_at, hits.message_id) < (at, id)
          AND (SELECT t.deleted_at IS NULL AND (p_agent IS NULL OR t.agent_id = p_agent) AND (p_tag IS NULL OR p_tag = ANY (t.tags))
               FROM threads t WHERE t.thread_id = hits.thread_id)
        ORDER BY hits.created_at DESC, hits.message_id DESC LIMIT p_limit;
END $$;

DO $$
DECLARE f regprocedure;
BEGIN
    FOR f IN SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
             AND p.proname IN ('branch_path', 'load_run', 'thread_history', 'save_answer', 'save_results', 'search_messages')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO vibe_app', f);
    END LOOP;
END $$;
