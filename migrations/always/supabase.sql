-- On Supabase's Postgres its own API stands beside ours, and grants the roles `anon` and `authenticated` everything in `public` by default. Here
-- that ends: strangers reach nothing of ours, and people who are signed in read what belongs to accounts they are members of. Writing is the
-- product's alone. Elsewhere these roles do not exist, and nothing happens. It runs at every start, so tables that come later are in it.
DO $$
DECLARE
    -- What people may read directly. No table with a secret, sealed or hashed, is among them.
    readable CONSTANT text[] := ARRAY['accounts', 'memberships', 'agents', 'agent_versions', 'threads', 'messages', 'runs', 'run_steps', 'approvals'];
    live CONSTANT text[] := ARRAY['threads', 'messages', 'runs', 'approvals'];
    -- Ours, although the product's role has no right to them either.
    hidden CONSTANT text[] := ARRAY['migrations', 'installation', 'refresh_tokens', 'recoveries', 'identities', 'supabase_sessions', 'gone_workspaces'];
    stranger text;
    o record;
BEGIN
    IF to_regrole('authenticated') IS NULL OR to_regprocedure('auth.uid()') IS NULL THEN RETURN; END IF;

    CREATE OR REPLACE FUNCTION vibe_client_accounts() RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public
        AS 'SELECT m.account_id FROM identities i JOIN memberships m USING (user_id) WHERE i.provider = ''supabase'' AND i.subject = auth.uid()::text';
    REVOKE EXECUTE ON FUNCTION vibe_client_accounts FROM PUBLIC;

    FOREACH stranger IN ARRAY ARRAY['anon', 'authenticated'] LOOP
        CONTINUE WHEN to_regrole(stranger) IS NULL;
        FOR o IN SELECT c.oid::regclass AS name FROM pg_class c
                 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
                   AND (c.relacl::text LIKE '%vibe_app=%' OR c.relname = ANY (hidden)) LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %I', o.name, stranger);
        END LOOP;
        -- What acts with the rights of its owner, or is for the product alone. What acts with its caller's own rights is harmless.
        FOR o IN SELECT p.oid::regprocedure AS name FROM pg_proc p
                 WHERE p.pronamespace = 'public'::regnamespace AND pg_has_role(current_user, p.proowner, 'USAGE')
                   AND (p.proacl::text LIKE '%vibe_app=%' OR p.prosecdef AND 'search_path=public' = ANY (p.proconfig)) LOOP
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM %I', o.name, stranger);
        END LOOP;
    END LOOP;

    FOR o IN SELECT p.tablename AS name FROM pg_policies p WHERE p.schemaname = 'public' AND p.policyname = 'tenant' AND p.roles = '{public}' LOOP
        EXECUTE format('ALTER POLICY tenant ON %I TO vibe_app', o.name);
    END LOOP;

    GRANT EXECUTE ON FUNCTION vibe_client_accounts TO authenticated;
    FOR o IN SELECT unnest(readable) AS name LOOP
        EXECUTE format('GRANT SELECT ON %I TO authenticated', o.name);
        CONTINUE WHEN EXISTS (SELECT 1 FROM pg_policies p WHERE p.schemaname = 'public' AND p.tablename = o.name AND p.policyname = 'members_read');
        EXECUTE format('CREATE POLICY members_read ON %I FOR SELECT TO authenticated USING (account_id IN (SELECT vibe_client_accounts()))', o.name);
    END LOOP;

    IF EXISTS (SELECT 1 FROM pg_publication WHERE pubname = 'supabase_realtime' AND NOT puballtables) THEN
        FOR o IN SELECT unnest(live) AS name EXCEPT SELECT t.tablename::text FROM pg_publication_tables t
                 WHERE t.pubname = 'supabase_realtime' AND t.schemaname = 'public' LOOP
            EXECUTE format('ALTER PUBLICATION supabase_realtime ADD TABLE %I', o.name);
        END LOOP;
    END IF;
END $$;
