-- Until a table was first analyzed the planner takes a row's account to be as rare as its thread, and may walk all the rows of an account to find those
-- of one thread: the first minute of a busy installation would grow slower with each turn. So tables are told that accounts are few. From 18 on
-- Postgres can be told; before, it finds out by itself, within a minute. What it has found is never replaced.
DO $$
DECLARE
    told regclass;
BEGIN
    IF current_setting('server_version_num')::integer < 180000 THEN RETURN; END IF;
    FOR told IN SELECT c.oid FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'account_id'
                WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND pg_has_role(current_user, c.relowner, 'USAGE')
                  AND NOT EXISTS (SELECT 1 FROM pg_statistic s WHERE s.starelid = c.oid) LOOP
        PERFORM pg_restore_attribute_stats('schemaname', 'public', 'relname', (SELECT relname::text FROM pg_class WHERE oid = told), 'attname', 'account_id',
                                           'inherited', false, 'null_frac', 0::real, 'avg_width', 16, 'n_distinct', 1::real);
    END LOOP;
END $$;
