-- People of an account: invitations, several accounts a person, sessions that are seen and ended, keys with scopes and an end, deletion.
-- Who acts is checked here again, under the account's lock: two at a time leave no account without an owner.

CREATE TABLE invitations (
    invitation_id  uuid PRIMARY KEY,
    account_id     uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    email          text NOT NULL,
    role           text NOT NULL CHECK (role IN ('owner', 'editor', 'approver', 'viewer')),
    token_hash     bytea NOT NULL UNIQUE,
    invited_by     uuid,
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL,
    accepted_at    timestamptz,
    accepted_by    uuid
);
CREATE INDEX invitations_account ON invitations (account_id, created_at DESC, invitation_id DESC);
CREATE UNIQUE INDEX invitations_open ON invitations (account_id, lower(email)) WHERE accepted_at IS NULL;
ALTER TABLE invitations ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON invitations USING (account_id = (SELECT vibe_account())) WITH CHECK (account_id = (SELECT vibe_account()));
GRANT SELECT, INSERT, DELETE ON invitations TO vibe_app;

-- Threads of accounts that were deleted: their workspaces on disk may go at once. It says nothing of whose they were.
CREATE TABLE gone_workspaces (
    thread_id   uuid PRIMARY KEY,
    created_at  timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE gone_workspaces ENABLE ROW LEVEL SECURITY;  -- no policy: reached through functions only

ALTER TABLE sessions ADD COLUMN network text NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN scopes text[] NOT NULL DEFAULT '{read,write,approve,manage}' CHECK (scopes <@ '{read,write,approve,manage}');
ALTER TABLE api_keys ADD COLUMN expires_at timestamptz;
CREATE INDEX audit_log_act ON audit_log (account_id, act, created_at DESC);

-- Who is asking -----------------------------------------------------------------------------------------------------

DROP FUNCTION key_by_hash(bytea);
CREATE FUNCTION key_by_hash(p_hash bytea)
    RETURNS TABLE (key_id uuid, user_id uuid, account_id uuid, role text, scopes text[], stale boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT k.key_id, k.user_id, k.account_id, m.role, k.scopes, coalesce(k.last_used_at < now() - interval '1 minute', true)
    FROM api_keys k JOIN memberships m ON m.user_id = k.user_id AND m.account_id = k.account_id
    WHERE k.key_hash = p_hash AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now()) $$;

-- A person and an account of his own; false when somebody has this address.
CREATE FUNCTION sign_up(p_user uuid, p_account uuid, p_email text, p_name text, p_password_hash text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    INSERT INTO users (user_id, email, name, password_hash) VALUES (p_user, p_email, p_name, p_password_hash) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN RETURN false; END IF;
    INSERT INTO accounts (account_id, name) VALUES (p_account, p_name);
    INSERT INTO memberships (account_id, user_id, role) VALUES (p_account, p_user, 'owner');
    RETURN true;
END $$;

-- Sessions ----------------------------------------------------------------------------------------------------------

-- A person's sessions, whichever of his accounts they speak for now.
CREATE FUNCTION sessions_of(p_user uuid)
    RETURNS TABLE (session_id uuid, user_agent text, network text, created_at timestamptz, last_used_at timestamptz, expires_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT s.session_id, s.user_agent, s.network, s.created_at, s.last_used_at, s.expires_at
    FROM sessions s WHERE s.user_id = p_user AND s.expires_at > now() ORDER BY s.last_used_at DESC, s.session_id DESC $$;

-- End one session of a person (p_only), or all but one (p_but); how many ended.
CREATE FUNCTION end_sessions(p_user uuid, p_only uuid, p_but uuid) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE ended integer;
BEGIN
    DELETE FROM sessions s WHERE s.user_id = p_user AND (p_only IS NULL OR s.session_id = p_only) AND s.session_id IS DISTINCT FROM p_but;
    GET DIAGNOSTICS ended = ROW_COUNT;
    RETURN ended;
END $$;

-- The session speaks for another account of its person from now on; his role there, or null when it is not his.
CREATE FUNCTION switch_session(p_user uuid, p_session uuid, p_account uuid) RETURNS text
    LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$
    UPDATE sessions s SET account_id = p_account FROM memberships m
    WHERE s.session_id = p_session AND s.user_id = p_user AND m.user_id = p_user AND m.account_id = p_account RETURNING m.role $$;

-- Accounts of a person ----------------------------------------------------------------------------------------------

CREATE FUNCTION accounts_of(p_user uuid) RETURNS TABLE (account_id uuid, name text, role text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT a.account_id, a.name, m.role FROM memberships m JOIN accounts a USING (account_id)
    WHERE m.user_id = p_user ORDER BY m.created_at, a.account_id $$;

-- One more account for somebody who is there; false when he has as many as one may have.
CREATE FUNCTION open_account(p_user uuid, p_account uuid, p_name text, p_bound integer) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    PERFORM 1 FROM users u WHERE u.user_id = p_user FOR NO KEY UPDATE;
    IF NOT FOUND OR (SELECT count(*) FROM memberships m WHERE m.user_id = p_user) >= p_bound THEN RETURN false; END IF;
    INSERT INTO accounts (account_id, name) VALUES (p_account, p_name);
    INSERT INTO memberships (account_id, user_id, role) VALUES (p_account, p_user, 'owner');
    RETURN true;
END $$;

-- Members -----------------------------------------------------------------------------------------------------------

-- Give a member another role: 'done', 'forbidden' (who asks is no owner now), 'nobody', or 'last_owner'.
CREATE FUNCTION set_role(p_by uuid, p_user uuid, p_role text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    own uuid := vibe_account();
    was text;
BEGIN
    PERFORM 1 FROM accounts a WHERE a.account_id = own FOR NO KEY UPDATE;
    IF NOT EXISTS (SELECT 1 FROM memberships m WHERE m.account_id = own AND m.user_id = p_by AND m.role = 'owner') THEN RETURN 'forbidden'; END IF;
    SELECT m.role INTO was FROM memberships m WHERE m.account_id = own AND m.user_id = p_user;
    IF was IS NULL THEN RETURN 'nobody'; END IF;
    IF was = 'owner' AND p_role <> 'owner'
       AND NOT EXISTS (SELECT 1 FROM memberships m WHERE m.account_id = own AND m.role = 'owner' AND m.user_id <> p_user) THEN RETURN 'last_owner'; END IF;
    UPDATE memberships m SET role = p_role WHERE m.account_id = own AND m.user_id = p_user;
    RETURN 'done';
END $$;

-- A person's sessions that speak for this account turn to the oldest of his others; without another one the person goes.
CREATE FUNCTION part_from(p_account uuid, p_user uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE other uuid;
BEGIN
    SELECT m.account_id INTO other FROM memberships m WHERE m.user_id = p_user AND m.account_id <> p_account ORDER BY m.created_at, m.account_id LIMIT 1;
    IF other IS NULL THEN
        DELETE FROM users u WHERE u.user_id = p_user;
    ELSE
        UPDATE sessions s SET account_id = other WHERE s.user_id = p_user AND s.account_id = p_account;
    END IF;
END $$;

-- A member goes, by himself or by an owner: 'done', 'forbidden', 'nobody', or 'last_owner'. His keys for the account are worthless.
CREATE FUNCTION remove_member(p_by uuid, p_user uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    own uuid := vibe_account();
    was text;
BEGIN
    PERFORM 1 FROM accounts a WHERE a.account_id = own FOR NO KEY UPDATE;
    IF p_by <> p_user AND NOT EXISTS (SELECT 1 FROM memberships m WHERE m.account_id = own AND m.user_id = p_by AND m.role = 'owner') THEN RETURN 'forbidden'; END IF;
    SELECT m.role INTO was FROM memberships m WHERE m.account_id = own AND m.user_id = p_user;
    IF was IS NULL THEN RETURN 'nobody'; END IF;
    IF was = 'owner' AND NOT EXISTS (SELECT 1 FROM memberships m WHERE m.account_id = own AND m.role = 'owner' AND m.user_id <> p_user) THEN RETURN 'last_owner'; END IF;
    UPDATE api_keys k SET revoked_at = now() WHERE k.account_id = own AND k.user_id = p_user AND k.revoked_at IS NULL;
    DELETE FROM memberships m WHERE m.account_id = own AND m.user_id = p_user;
    PERFORM part_from(own, p_user);
    RETURN 'done';
END $$;

-- Invitations -------------------------------------------------------------------------------------------------------

-- What whoever holds the link may know of it; nothing when it was used, withdrawn or is over.
CREATE FUNCTION invitation_by_hash(p_hash bytea) RETURNS TABLE (account_name text, email text, role text, known boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT a.name, i.email, i.role, EXISTS (SELECT 1 FROM users u WHERE lower(u.email) = lower(i.email))
    FROM invitations i JOIN accounts a USING (account_id) WHERE i.token_hash = p_hash AND i.accepted_at IS NULL AND i.expires_at > now() $$;

-- Use an invitation, once. With a password hash it makes the person; without one it is for somebody who is there already.
-- 'done', 'void', 'known' (the address has a person: he signs in first), 'another' (it is somebody else's), or 'member' (he is one already).
CREATE FUNCTION accept_invitation(p_hash bytea, p_user uuid, p_name text, p_password_hash text) RETURNS TABLE (outcome text, account_id uuid)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
#variable_conflict use_column
DECLARE i invitations%ROWTYPE;
BEGIN
    SELECT * INTO i FROM invitations v WHERE v.token_hash = p_hash AND v.accepted_at IS NULL AND v.expires_at > now() FOR UPDATE;
    IF NOT FOUND THEN RETURN QUERY SELECT 'void', NULL::uuid; RETURN; END IF;
    IF p_password_hash IS NOT NULL THEN
        INSERT INTO users (user_id, email, name, password_hash) VALUES (p_user, i.email, p_name, p_password_hash) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN RETURN QUERY SELECT 'known', NULL::uuid; RETURN; END IF;
    ELSIF NOT EXISTS (SELECT 1 FROM users u WHERE u.user_id = p_user AND lower(u.email) = lower(i.email)) THEN
        RETURN QUERY SELECT 'another', NULL::uuid; RETURN;
    END IF;
    INSERT INTO memberships (account_id, user_id, role) VALUES (i.account_id, p_user, i.role) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN RETURN QUERY SELECT 'member', i.account_id; RETURN; END IF;
    UPDATE invitations v SET accepted_at = now(), accepted_by = p_user WHERE v.invitation_id = i.invitation_id;
    RETURN QUERY SELECT 'done', i.account_id;
END $$;

-- Deletion ----------------------------------------------------------------------------------------------------------

-- Every table whose rows belong to accounts, from the catalogue: a table that comes later is in it by itself.
CREATE FUNCTION tenant_tables() RETURNS SETOF text LANGUAGE sql STABLE SET search_path = public AS $$
    SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND a.attname = 'account_id' AND NOT a.attisdropped AND a.atttypid = 'uuid'::regtype ORDER BY 1 $$;

-- Remove every row of the transaction's account and every person who has no other, then count again: how many rows each table had, and how many
-- are left (none, or it fails and nothing has happened). No rows at all when who asks is no owner.
CREATE FUNCTION delete_account(p_by uuid) RETURNS TABLE (table_name text, deleted bigint, remaining bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    own uuid := vibe_account();
    names text[] := ARRAY(SELECT tenant_tables());
    had bigint[] := '{}';
    people uuid[];
    again boolean;
    n bigint;
    t text;
BEGIN
    PERFORM 1 FROM accounts a WHERE a.account_id = own FOR UPDATE;
    IF NOT EXISTS (SELECT 1 FROM memberships m WHERE m.account_id = own AND m.user_id = p_by AND m.role = 'owner') THEN RETURN; END IF;
    FOREACH t IN ARRAY names LOOP
        EXECUTE format('SELECT count(*) FROM %I WHERE account_id = $1', t) INTO n USING own;
        had := had || n;
    END LOOP;
    INSERT INTO gone_workspaces (thread_id) SELECT t2.thread_id FROM threads t2 WHERE t2.account_id = own ON CONFLICT DO NOTHING;
    people := ARRAY(SELECT m.user_id FROM memberships m WHERE m.account_id = own);
    PERFORM part_from(own, person) FROM unnest(people) AS person;
    SELECT count(*) INTO n FROM unnest(people) AS person WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.user_id = person);
    table_name := 'users'; deleted := n; remaining := 0;
    RETURN NEXT;
    FOR pass IN 1..cardinality(names) LOOP  -- a row that another table still names goes in a later pass
        again := false;
        FOREACH t IN ARRAY names LOOP
            BEGIN
                EXECUTE format('DELETE FROM %I WHERE account_id = $1', t) USING own;
            EXCEPTION WHEN foreign_key_violation THEN
                again := true;
            END;
        END LOOP;
        EXIT WHEN NOT again;
    END LOOP;
    FOR place IN 1..cardinality(names) LOOP
        EXECUTE format('SELECT count(*) FROM %I WHERE account_id = $1', names[place]) INTO n USING own;
        IF n > 0 THEN RAISE EXCEPTION '% rows of the account are left in %', n, names[place]; END IF;
        table_name := names[place]; deleted := had[place]; remaining := n;
        RETURN NEXT;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION gone_threads(p_threads uuid[]) RETURNS TABLE (thread_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT t.thread_id FROM threads t WHERE t.thread_id = ANY (p_threads) AND t.deleted_at < now() - interval '7 days'
    UNION ALL
    SELECT g.thread_id FROM gone_workspaces g WHERE g.thread_id = ANY (p_threads) $$;

DO $$
DECLARE f regprocedure;
BEGIN
    FOR f IN SELECT p.oid::regprocedure FROM pg_proc p
             WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN ('key_by_hash', 'sign_up', 'sessions_of', 'end_sessions', 'switch_session',
                 'accounts_of', 'open_account', 'set_role', 'part_from', 'remove_member', 'invitation_by_hash', 'accept_invitation', 'tenant_tables',
                 'delete_account')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO vibe_app', f);
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION part_from FROM vibe_app;  -- a step of the others
