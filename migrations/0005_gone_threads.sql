-- Which of these threads were deleted more than a week ago: their workspaces may go.
CREATE FUNCTION gone_threads(p_threads uuid[]) RETURNS TABLE (thread_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT t.thread_id FROM threads t WHERE t.thread_id = ANY (p_threads) AND t.deleted_at < now() - interval '7 days' $$;

REVOKE EXECUTE ON FUNCTION gone_threads FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gone_threads TO vibe_app;
