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
             AND p.proname IN ('branch_path', 'search_messages')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO vibe_app', f);
    END LOOP;
END $$;
