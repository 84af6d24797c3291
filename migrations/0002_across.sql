-- The only ways across accounts. Each is SECURITY DEFINER with a fixed search_path and returns as little as it can.

-- Who is asking -----------------------------------------------------------------------------------------------------

CREATE FUNCTION installation_has_owner() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public
    AS $$ SELECT EXISTS (SELECT 1 FROM users) $$;

CREATE FUNCTION installation_get(p_name text) RETURNS jsonb LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public
    AS $$ SELECT value FROM installation WHERE name = p_name $$;

CREATE FUNCTION installation_put(p_name text, p_value jsonb) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public
    AS $$ INSERT INTO installation (name, value) VALUES (p_name, p_value) ON CONFLICT (name) DO UPDATE SET value = excluded.value $$;

-- The first person: only while there is nobody, and only once however many ask.
CREATE FUNCTION create_owner(p_user uuid, p_account uuid, p_email text, p_name text, p_password_hash text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('vibe.create_owner'));
    IF EXISTS (SELECT 1 FROM users) THEN RETURN false; END IF;
    INSERT INTO users (user_id, email, name, password_hash) VALUES (p_user, p_email, p_name, p_password_hash);
    INSERT INTO accounts (account_id, name) VALUES (p_account, p_name);
    INSERT INTO memberships (account_id, user_id, role) VALUES (p_account, p_user, 'owner');
    DELETE FROM installation WHERE name = 'setup_token';
    RETURN true;
END $$;

CREATE FUNCTION login_by_email(p_email text)
    RETURNS TABLE (user_id uuid, password_hash text, account_id uuid, role text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT u.user_id, u.password_hash, m.account_id, m.role
    FROM users u JOIN memberships m USING (user_id)
    WHERE lower(u.email) = lower(p_email) ORDER BY m.created_at LIMIT 1 $$;

-- The oldest owner's account: who the command line on the same machine speaks for.
CREATE FUNCTION first_owner() RETURNS TABLE (user_id uuid, account_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT m.user_id, m.account_id FROM memberships m WHERE m.role = 'owner' ORDER BY m.created_at LIMIT 1 $$;

-- `stale` says that the time of the last use is old enough to be written anew.
CREATE FUNCTION session_by_hash(p_hash bytea)
    RETURNS TABLE (session_id uuid, user_id uuid, account_id uuid, role text, stale boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT s.session_id, s.user_id, s.account_id, m.role, s.last_used_at < now() - interval '1 hour'
    FROM sessions s JOIN memberships m ON m.user_id = s.user_id AND m.account_id = s.account_id
    WHERE s.token_hash = p_hash AND s.expires_at > now() $$;

CREATE FUNCTION key_by_hash(p_hash bytea)
    RETURNS TABLE (key_id uuid, user_id uuid, account_id uuid, role text, stale boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT k.key_id, k.user_id, k.account_id, m.role, coalesce(k.last_used_at < now() - interval '1 minute', true)
    FROM api_keys k JOIN memberships m ON m.user_id = k.user_id AND m.account_id = k.account_id
    WHERE k.key_hash = p_hash AND k.revoked_at IS NULL $$;

-- Runs --------------------------------------------------------------------------------------------------------------

-- Give a run to a worker, or nothing when it is not due, its thread is busy or its account has enough live runs. Times are this database's clock.
-- A run whose worker was lost counts a loss. The caller learns of it by `losses`.
CREATE FUNCTION claim_run(p_run uuid, p_worker text, p_lease interval, p_account_bound integer)
    RETURNS TABLE (run_id uuid, account_id uuid, thread_id uuid, agent_id uuid, epoch integer, losses integer, orphaned boolean)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
#variable_conflict use_column
DECLARE
    r runs%ROWTYPE;
    orphan boolean;
    live integer;
BEGIN
    SELECT * INTO r FROM runs WHERE runs.run_id = p_run FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN; END IF;
    orphan := r.status = 'running' AND r.lease_until < clock_timestamp();
    IF NOT (orphan OR (r.status IN ('queued', 'waiting_approval') AND r.wake_at <= clock_timestamp())) THEN RETURN; END IF;
    IF r.status = 'queued' THEN
        IF EXISTS (SELECT 1 FROM runs o WHERE o.thread_id = r.thread_id AND o.status IN ('running', 'waiting_approval')) THEN RETURN; END IF;
        IF EXISTS (SELECT 1 FROM runs o WHERE o.thread_id = r.thread_id AND o.status = 'queued' AND (o.created_at, o.run_id) < (r.created_at, r.run_id)) THEN RETURN; END IF;
    END IF;
    IF NOT orphan AND r.stop_requested_at IS NULL THEN  -- one that is only to end takes nobody's place
        SELECT count(*) INTO live FROM runs o WHERE o.account_id = r.account_id AND o.status = 'running';
        IF live + 64 >= p_account_bound THEN  -- near the bound the claims of an account wait for each other
            PERFORM pg_advisory_xact_lock(hashtextextended(r.account_id::text, 1));
            SELECT count(*) INTO live FROM runs o WHERE o.account_id = r.account_id AND o.status = 'running';
        END IF;
        IF live >= p_account_bound THEN RETURN; END IF;
    END IF;
    RETURN QUERY
        UPDATE runs SET status = 'running', lease_owner = p_worker, lease_until = clock_timestamp() + p_lease, epoch = runs.epoch + 1,
            losses = runs.losses + (orphan AND r.lease_owner IS NOT NULL)::int, started_at = coalesce(runs.started_at, clock_timestamp())
        WHERE runs.run_id = p_run
        RETURNING runs.run_id, runs.account_id, runs.thread_id, runs.agent_id, runs.epoch, runs.losses, orphan;
EXCEPTION WHEN unique_violation THEN
    RETURN;  -- another run of this thread was claimed in the same moment
END $$;

-- Runs that are orphaned, or due for half a second and still not claimed, in fair turns: the account with the fewest live runs first, then who
-- waits longest.
CREATE FUNCTION due_runs(p_limit integer) RETURNS TABLE (run_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    WITH due AS (
        SELECT r.run_id, r.account_id, r.wake_at, false AS orphan FROM runs r
        WHERE r.status IN ('queued', 'waiting_approval') AND r.wake_at <= clock_timestamp() - interval '500 ms'
          AND NOT (r.status = 'queued' AND EXISTS (SELECT 1 FROM runs o WHERE o.thread_id = r.thread_id
                   AND (o.status IN ('running', 'waiting_approval') OR (o.status = 'queued' AND (o.created_at, o.run_id) < (r.created_at, r.run_id)))))
        UNION ALL
        SELECT r.run_id, r.account_id, r.lease_until, true FROM runs r WHERE r.status = 'running' AND r.lease_until < clock_timestamp()
    ), live AS (
        SELECT account_id, count(*) AS n FROM runs WHERE status = 'running' AND lease_until >= clock_timestamp() GROUP BY account_id
    )
    SELECT d.run_id FROM (
        SELECT due.run_id, due.orphan, due.wake_at, coalesce(live.n, 0) + row_number() OVER (PARTITION BY due.account_id ORDER BY due.orphan DESC, due.wake_at) AS turn
        FROM due LEFT JOIN live USING (account_id)) d
    ORDER BY d.orphan DESC, d.turn, d.wake_at LIMIT p_limit $$;

-- Heartbeat of all live runs of a worker. A run that is not returned is not the worker's any more.
CREATE FUNCTION extend_leases(p_worker text, p_runs uuid[], p_epochs integer[], p_lease interval)
    RETURNS TABLE (run_id uuid, stop_requested boolean)
    LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$
    UPDATE runs SET lease_until = clock_timestamp() + p_lease
    FROM unnest(p_runs, p_epochs) AS mine (run_id, epoch)
    WHERE runs.run_id = mine.run_id AND runs.epoch = mine.epoch AND runs.lease_owner = p_worker AND runs.status = 'running'
    RETURNING runs.run_id, runs.stop_requested_at IS NOT NULL $$;

-- Hand runs back at once when a worker leaves in order: the lease ends now, and nobody counts a loss.
CREATE FUNCTION release_leases(p_worker text) RETURNS TABLE (run_id uuid)
    LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$
    UPDATE runs SET lease_owner = NULL, lease_until = clock_timestamp() - interval '1 ms', epoch = epoch + 1
    WHERE lease_owner = p_worker AND status = 'running' RETURNING runs.run_id $$;

-- How the runs stand that a process already shows to those who may see them.
CREATE FUNCTION run_states(p_runs uuid[]) RETURNS TABLE (run_id uuid, status text, epoch integer)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT r.run_id, r.status, r.epoch FROM runs r WHERE r.run_id = ANY (p_runs) $$;

-- How one run stands, for the account that asks.
CREATE FUNCTION run_state(p_account uuid, p_run uuid) RETURNS TABLE (status text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT r.status FROM runs r WHERE r.run_id = p_run AND r.account_id = p_account $$;

-- How many queued runs stand before this one, over all accounts; 0 means it is next.
CREATE FUNCTION queue_place(p_run uuid) RETURNS integer LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT count(*)::integer FROM runs o, runs r
    WHERE r.run_id = p_run AND r.status = 'queued' AND o.status = 'queued' AND (o.created_at, o.run_id) < (r.created_at, r.run_id) $$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO vibe_app;
