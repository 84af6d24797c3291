-- Webhooks and notifications. What happens to runs and approvals is noticed by triggers, so that whoever writes them need not know who listens.

-- A uuid7 made here: the first 48 bits are milliseconds, the version of a random one (4) becomes 7.
CREATE FUNCTION new_uuid7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_byte(made.id, 6, get_byte(made.id, 6) | 48), 'hex')::uuid
    FROM (SELECT overlay(uuid_send(gen_random_uuid())
                         PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6) AS id) made $$;

-- `sealed` is the signing secret, `sealed_before` the one before it, which signs too until `before_until`. `failing_since` is the first failure
-- after the last success.
CREATE TABLE webhooks (
    webhook_id       uuid PRIMARY KEY,
    account_id       uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    url              text NOT NULL,
    description      text NOT NULL DEFAULT '',
    events           text[] NOT NULL,
    sealed           bytea NOT NULL,
    sealed_before    bytea,
    before_until     timestamptz,
    active           boolean NOT NULL DEFAULT true,
    failing_since    timestamptz,
    disabled_at      timestamptz,
    disabled_reason  text NOT NULL DEFAULT '',
    created_by       uuid,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhooks_account ON webhooks (account_id, created_at DESC, webhook_id DESC);
CREATE INDEX webhooks_active ON webhooks (account_id) WHERE active;

-- One event for one webhook; `delivery_id` is its webhook-id at every attempt. While somebody tries, `due_at` is the end of his lease, and `claim` says
-- whose attempt it is.
CREATE TABLE webhook_deliveries (
    delivery_id    uuid PRIMARY KEY,
    account_id     uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    webhook_id     uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    event          text NOT NULL,
    body           text NOT NULL,
    status         text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed')),
    attempts       integer NOT NULL DEFAULT 0,
    claim          integer NOT NULL DEFAULT 0,
    due_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until    timestamptz,
    answer_status  integer,
    answer         text NOT NULL DEFAULT '',
    error          text NOT NULL DEFAULT '',
    took_ms        integer,
    tried_at       timestamptz,
    delivered_at   timestamptz,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (due_at) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_of ON webhook_deliveries (webhook_id, created_at DESC, delivery_id DESC);
CREATE INDEX webhook_deliveries_account ON webhook_deliveries (account_id);
CREATE INDEX webhook_deliveries_age ON webhook_deliveries (created_at);

-- What people should know. `resolved_at` says that nothing is left to do about it.
CREATE TABLE notifications (
    notification_id  uuid PRIMARY KEY,
    account_id       uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    kind             text NOT NULL CHECK (kind IN ('approval.waiting', 'run.failed', 'run.limit', 'webhook.disabled')),
    title            text NOT NULL,
    detail           text NOT NULL DEFAULT '',
    thread_id        uuid REFERENCES threads ON DELETE CASCADE,
    run_id           uuid,
    approval_id      uuid,
    webhook_id       uuid REFERENCES webhooks ON DELETE CASCADE,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at      timestamptz
);
CREATE INDEX notifications_account ON notifications (account_id, created_at DESC, notification_id DESC);
CREATE INDEX notifications_open ON notifications (account_id) WHERE resolved_at IS NULL;
CREATE INDEX notifications_run ON notifications (run_id) WHERE resolved_at IS NULL AND approval_id IS NOT NULL;
CREATE INDEX notifications_thread ON notifications (thread_id);
CREATE INDEX notifications_webhook ON notifications (webhook_id);
CREATE INDEX notifications_age ON notifications (created_at);

CREATE TABLE notification_reads (
    notification_id  uuid NOT NULL REFERENCES notifications ON DELETE CASCADE,
    user_id          uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    account_id       uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    read_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (notification_id, user_id)
);
CREATE INDEX notification_reads_user ON notification_reads (user_id);
CREATE INDEX notification_reads_account ON notification_reads (account_id);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['webhooks', 'webhook_deliveries', 'notifications', 'notification_reads']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (account_id = (SELECT vibe_account())) WITH CHECK (account_id = (SELECT vibe_account()))', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO vibe_app', t);
    END LOOP;
END $$;
REVOKE INSERT, UPDATE, DELETE ON notifications FROM vibe_app;

-- Noticing --------------------------------------------------------------------------------------------------------------

CREATE FUNCTION has_webhook(p_account uuid, p_event text) RETURNS boolean LANGUAGE sql STABLE
    AS $$ SELECT EXISTS (SELECT 1 FROM webhooks w WHERE w.account_id = p_account AND w.active AND p_event = ANY (w.events)) $$;

-- An event as it is sent.
CREATE FUNCTION event_body(p_event text, p_data jsonb) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('type', p_event, 'timestamp', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'data', p_data)::text $$;

-- A delivery for each of the account's webhooks that want this event.
CREATE FUNCTION announce(p_account uuid, p_event text, p_data jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO webhook_deliveries (delivery_id, account_id, webhook_id, event, body)
    SELECT new_uuid7(), w.account_id, w.webhook_id, p_event, event_body(p_event, p_data)
    FROM webhooks w WHERE w.account_id = p_account AND w.active AND p_event = ANY (w.events) $$;

CREATE FUNCTION on_run_end() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    IF has_webhook(NEW.account_id, 'run.finished') THEN
        PERFORM announce(NEW.account_id, 'run.finished', jsonb_build_object(
            'run_id', NEW.run_id, 'thread_id', NEW.thread_id, 'agent_id', NEW.agent_id, 'status', NEW.status, 'problem', NEW.problem, 'steps', NEW.steps,
            'input_tokens', NEW.input_tokens, 'output_tokens', NEW.output_tokens, 'cost_micro_usd', NEW.cost_micro_usd, 'cost_known', NEW.cost_known));
    END IF;
    UPDATE notifications SET resolved_at = clock_timestamp() WHERE run_id = NEW.run_id AND approval_id IS NOT NULL AND resolved_at IS NULL;
    IF NEW.status IN ('failed', 'timed_out') THEN
        INSERT INTO notifications (notification_id, account_id, kind, title, detail, thread_id, run_id)
        VALUES (new_uuid7(), NEW.account_id, CASE WHEN NEW.problem->>'type' = 'urn:vibe:problem:limit-reached' THEN 'run.limit' ELSE 'run.failed' END,
                left(coalesce(NEW.problem->>'title', 'A run failed'), 300), left(coalesce(NEW.problem->>'detail', ''), 1000), NEW.thread_id, NEW.run_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER runs_ended AFTER UPDATE OF status ON runs FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status IN ('completed', 'failed', 'stopped', 'timed_out'))
    EXECUTE FUNCTION on_run_end();

CREATE FUNCTION approval_data(p approvals) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('approval_id', p.approval_id, 'run_id', p.run_id, 'thread_id', p.thread_id, 'agent_id', p.agent_id, 'action', p.action,
                              'reason', p.reason, 'status', p.status, 'expires_at', p.expires_at) $$;

CREATE FUNCTION on_approval_asked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    INSERT INTO notifications (notification_id, account_id, kind, title, detail, thread_id, run_id, approval_id)
    VALUES (new_uuid7(), NEW.account_id, 'approval.waiting', left(NEW.action, 300), left(NEW.reason, 1000), NEW.thread_id, NEW.run_id, NEW.approval_id);
    IF has_webhook(NEW.account_id, 'approval.requested') THEN
        PERFORM announce(NEW.account_id, 'approval.requested', approval_data(NEW));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER approvals_asked AFTER INSERT ON approvals FOR EACH ROW WHEN (NEW.status = 'pending') EXECUTE FUNCTION on_approval_asked();

CREATE FUNCTION on_approval_decided() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    UPDATE notifications SET resolved_at = clock_timestamp()
    WHERE run_id = NEW.run_id AND approval_id = NEW.approval_id AND approval_id IS NOT NULL AND resolved_at IS NULL;
    IF has_webhook(NEW.account_id, 'approval.decided') THEN
        PERFORM announce(NEW.account_id, 'approval.decided', approval_data(NEW));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER approvals_decided AFTER UPDATE OF status ON approvals FOR EACH ROW
    WHEN (OLD.status = 'pending' AND NEW.status <> 'pending') EXECUTE FUNCTION on_approval_decided();

-- A webhook goes off or on. What waited for one that is off is not sent; `disabled_at` says that nobody turned it off, it failed too long.
CREATE FUNCTION on_webhook_switched() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    IF NEW.active THEN
        UPDATE notifications SET resolved_at = clock_timestamp() WHERE webhook_id = NEW.webhook_id AND resolved_at IS NULL;
        RETURN NULL;
    END IF;
    UPDATE webhook_deliveries SET status = 'failed', error = 'The webhook was turned off.' WHERE webhook_id = NEW.webhook_id AND status = 'pending';
    IF NEW.disabled_at IS NOT NULL THEN
        INSERT INTO notifications (notification_id, account_id, kind, title, detail, webhook_id)
        VALUES (new_uuid7(), NEW.account_id, 'webhook.disabled', left(NEW.url, 300), left(NEW.disabled_reason, 1000), NEW.webhook_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER webhooks_switched AFTER UPDATE OF active ON webhooks FOR EACH ROW WHEN (OLD.active <> NEW.active) EXECUTE FUNCTION on_webhook_switched();

-- Across accounts -------------------------------------------------------------------------------------------------------

-- Deliveries that are due, at most four of a webhook and none of those that the caller is busy with, leased: whoever does not answer for one in time
-- loses it to the next.
CREATE FUNCTION claim_deliveries(p_busy uuid[], p_limit integer, p_lease interval)
    RETURNS TABLE (delivery_id uuid, account_id uuid, webhook_id uuid, event text, body text, attempts integer, claim integer, url text, sealed bytea,
                   sealed_before bytea)
    LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$
    WITH due AS (
        SELECT d.delivery_id, d.webhook_id, d.due_at FROM webhook_deliveries d
        WHERE d.status = 'pending' AND d.due_at <= clock_timestamp() AND d.webhook_id <> ALL (p_busy)
        ORDER BY d.due_at LIMIT p_limit * 4 FOR UPDATE SKIP LOCKED
    ), turns AS (
        SELECT due.delivery_id, due.due_at, row_number() OVER (PARTITION BY due.webhook_id ORDER BY due.due_at) AS turn FROM due
    ), mine AS (
        SELECT turns.delivery_id FROM turns WHERE turns.turn <= 4 ORDER BY turns.due_at LIMIT p_limit
    )
    UPDATE webhook_deliveries d SET claim = d.claim + 1, attempts = d.attempts + 1, tried_at = clock_timestamp(),
        due_at = clock_timestamp() + p_lease, lease_until = clock_timestamp() + p_lease
    FROM mine, webhooks w WHERE d.delivery_id = mine.delivery_id AND w.webhook_id = d.webhook_id
    RETURNING d.delivery_id, d.account_id, d.webhook_id, d.event, d.body, d.attempts, d.claim, w.url, w.sealed,
              CASE WHEN w.before_until > clock_timestamp() THEN w.sealed_before END $$;

-- Deliveries are kept for thirty days, notifications for ninety.
CREATE FUNCTION forget_old_news() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    sent integer;
    told integer;
BEGIN
    DELETE FROM webhook_deliveries d WHERE d.created_at < now() - interval '30 days' AND d.status <> 'pending';
    GET DIAGNOSTICS sent = ROW_COUNT;
    DELETE FROM notifications n WHERE n.created_at < now() - interval '90 days';
    GET DIAGNOSTICS told = ROW_COUNT;
    RETURN sent + told;
END $$;

DO $$
DECLARE f regprocedure;
BEGIN
    FOR f IN SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
             AND p.proname IN ('new_uuid7', 'has_webhook', 'event_body', 'announce', 'approval_data', 'on_run_end', 'on_approval_asked',
                               'on_approval_decided', 'on_webhook_switched', 'claim_deliveries', 'forget_old_news')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION claim_deliveries, forget_old_news, event_body TO vibe_app;
