-- The core: who asks, agents, threads, runs. Every row that belongs to somebody carries account_id, and the policy
-- at the end of this file shows rows of the transaction's account only.

CREATE FUNCTION vibe_account() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT nullif(current_setting('vibe.account_id', true), '')::uuid $$;

-- Installation-wide facts: the hash of the one-time setup token, the canary of the secret key.
CREATE TABLE installation (
    name        text PRIMARY KEY,
    value       jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- Who is asking -----------------------------------------------------------------------------------------------------

CREATE TABLE accounts (
    account_id          uuid PRIMARY KEY,
    name                text NOT NULL,
    last_thread_number  integer NOT NULL DEFAULT 0,
    default_model       text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
    user_id        uuid PRIMARY KEY,
    email          text NOT NULL,
    name           text NOT NULL,
    password_hash  text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email ON users (lower(email));

CREATE TABLE memberships (
    account_id  uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    user_id     uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    role        text NOT NULL CHECK (role IN ('owner', 'editor', 'approver', 'viewer')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, user_id)
);
CREATE INDEX memberships_user ON memberships (user_id);

CREATE TABLE sessions (
    session_id    uuid PRIMARY KEY,
    account_id    uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    user_id       uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    token_hash    bytea NOT NULL UNIQUE,
    user_agent    text NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_used_at  timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL
);
CREATE INDEX sessions_account ON sessions (account_id);
CREATE INDEX sessions_user ON sessions (user_id);

CREATE TABLE api_keys (
    key_id        uuid PRIMARY KEY,
    account_id    uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    user_id       uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name          text NOT NULL,
    prefix        text NOT NULL,
    key_hash      bytea NOT NULL UNIQUE,
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_used_at  timestamptz,
    revoked_at    timestamptz
);
CREATE INDEX api_keys_account ON api_keys (account_id, created_at DESC);

CREATE TABLE audit_log (
    entry_id    uuid PRIMARY KEY,
    account_id  uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    user_id     uuid,
    act         text NOT NULL,
    object      text NOT NULL DEFAULT '',
    detail      jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_log_account ON audit_log (account_id, created_at DESC);

CREATE TABLE credentials (
    account_id  uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    provider    text NOT NULL,
    sealed      bytea,
    base_url    text,
    hint        text NOT NULL DEFAULT '',
    tested_at   timestamptz,
    test_ok     boolean,
    test_detail text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, provider)
);

-- Prices in micro-USD per million tokens; null is unknown, never free.
CREATE TABLE model_prices (
    account_id    uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    model         text NOT NULL,
    input_price   bigint CHECK (input_price >= 0),
    output_price  bigint CHECK (output_price >= 0),
    cached_price  bigint CHECK (cached_price >= 0),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, model)
);

-- Agents ------------------------------------------------------------------------------------------------------------

CREATE TABLE agents (
    agent_id        uuid PRIMARY KEY,
    account_id      uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    name            varchar(255) NOT NULL,
    system_prompt   text NOT NULL DEFAULT '',
    model_name      varchar(100) NOT NULL DEFAULT '',
    tools           jsonb NOT NULL DEFAULT '[]',
    active_version  integer NOT NULL DEFAULT 1,
    deleted_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX agents_account ON agents (account_id, created_at DESC, agent_id DESC) WHERE deleted_at IS NULL;

CREATE TABLE agent_versions (
    version_id    uuid PRIMARY KEY,
    agent_id      uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
    account_id    uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    number        integer NOT NULL,
    content_hash  bytea NOT NULL,
    config        jsonb NOT NULL,
    note          text NOT NULL DEFAULT '',
    created_by    uuid,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (agent_id, number)
);
CREATE UNIQUE INDEX agent_versions_content ON agent_versions (agent_id, content_hash);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION '% rows are immutable', TG_TABLE_NAME; END $$;
CREATE TRIGGER agent_versions_immutable BEFORE UPDATE ON agent_versions FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE agent_drafts (
    agent_id    uuid PRIMARY KEY REFERENCES agents ON DELETE CASCADE,
    account_id  uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    config      jsonb NOT NULL,
    revision    integer NOT NULL DEFAULT 1,
    updated_by  uuid,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- "Always" answers to approvals: an action and the exact pattern of its arguments.
CREATE TABLE permission_rules (
    rule_id     uuid PRIMARY KEY,
    account_id  uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    agent_id    uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
    action      text NOT NULL,
    pattern     jsonb NOT NULL,
    decision    text NOT NULL CHECK (decision IN ('allow', 'ask', 'deny')),
    created_by  uuid,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX permission_rules_agent ON permission_rules (agent_id);

-- Threads -----------------------------------------------------------------------------------------------------------

CREATE TABLE threads (
    thread_id   uuid PRIMARY KEY,
    agent_id    uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
    account_id  uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    number      integer NOT NULL,
    title       text NOT NULL DEFAULT '',
    title_by    text NOT NULL DEFAULT 'auto' CHECK (title_by IN ('auto', 'person')),
    last_seq    integer NOT NULL DEFAULT 0,
    tokens      bigint NOT NULL DEFAULT 0,
    deleted_at  timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, number)
);
CREATE INDEX threads_account ON threads (account_id, updated_at DESC, thread_id DESC) WHERE deleted_at IS NULL;
CREATE INDEX threads_agent ON threads (agent_id);

-- A message is written once, whole. `seq` is null while its turn has not begun; `discarded` leaves it out of the
-- history that the model sees (a rolled back or retried turn; what a discarded run still writes is discarded too). `tokens` are estimated, `tokens_upto` is their sum in the
-- thread up to and with this message.
CREATE TABLE messages (
    message_id    uuid PRIMARY KEY,
    thread_id     uuid NOT NULL REFERENCES threads ON DELETE CASCADE,
    account_id    uuid NOT NULL,
    run_id        uuid,
    parent_id     uuid,
    seq           integer,
    role          varchar(20) NOT NULL CHECK (role IN ('user', 'assistant', 'tool')),
    content       text NOT NULL,
    reasoning     text NOT NULL DEFAULT '',
    tool_calls    jsonb,
    tool_call_id  text,
    tool_name     text,
    status        text NOT NULL DEFAULT 'ok',
    receipt       jsonb,
    tokens        integer NOT NULL DEFAULT 0,
    tokens_upto   bigint NOT NULL DEFAULT 0,
    discarded     boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (thread_id, seq)
);
CREATE INDEX messages_run ON messages (run_id);
CREATE UNIQUE INDEX messages_result ON messages (run_id, tool_call_id) WHERE role = 'tool';

-- In `messages` and `runs` created_at orders what waits: it is the moment of the insert under the thread's lock, not of the transaction's begin.

-- Runs --------------------------------------------------------------------------------------------------------------

-- A run belongs to its thread, and goes with it. No index names `lease_until`, so that a heartbeat touches no index.
CREATE TABLE runs (
    run_id            uuid PRIMARY KEY,
    account_id        uuid NOT NULL,
    thread_id         uuid NOT NULL REFERENCES threads ON DELETE CASCADE,
    agent_id          uuid NOT NULL,
    version_id        uuid NOT NULL,
    input_message_id  uuid NOT NULL,
    retry_of          uuid,
    model             text,
    status            text NOT NULL CHECK (status IN
                        ('queued', 'running', 'waiting_approval', 'completed', 'failed', 'stopped', 'timed_out')),
    lease_owner       text,
    lease_until       timestamptz,
    epoch             integer NOT NULL DEFAULT 0,
    losses            integer NOT NULL DEFAULT 0,
    journal_version   integer NOT NULL DEFAULT 1,
    wake_at           timestamptz NOT NULL DEFAULT now(),
    stop_requested_at timestamptz,
    discarded         boolean NOT NULL DEFAULT false,
    started_at        timestamptz,
    finished_at       timestamptz,
    waiting_since     timestamptz,
    waited            interval NOT NULL DEFAULT '0',
    problem           jsonb,
    steps             integer NOT NULL DEFAULT 0,
    input_tokens      bigint NOT NULL DEFAULT 0,
    output_tokens     bigint NOT NULL DEFAULT 0,
    cached_tokens     bigint NOT NULL DEFAULT 0,
    cost_micro_usd    bigint NOT NULL DEFAULT 0,
    cost_known        boolean NOT NULL DEFAULT true,
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX runs_one_per_thread ON runs (thread_id) WHERE status IN ('running', 'waiting_approval');
CREATE INDEX runs_due ON runs (wake_at) WHERE status IN ('queued', 'waiting_approval');
CREATE INDEX runs_running ON runs (account_id) WHERE status = 'running';
CREATE INDEX runs_thread ON runs (thread_id, created_at DESC);

-- The journal of a run: model calls and tool calls. An effect is a committed row in `started` before it happens.
CREATE TABLE run_steps (
    step_id          uuid PRIMARY KEY,
    run_id           uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    account_id       uuid NOT NULL,
    number           integer NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('model_call', 'tool_call')),
    name             text NOT NULL,
    call_id          text,
    message_id       uuid,
    effect           text CHECK (effect IN ('read', 'idempotent', 'once')),
    status           text NOT NULL CHECK (status IN ('planned', 'started', 'done', 'failed', 'unknown')),
    request_hash     bytea,
    idempotency_key  text,
    epoch            integer NOT NULL,
    attempts         integer NOT NULL DEFAULT 1,
    usage            jsonb,
    cost_micro_usd   bigint,
    detail           jsonb,
    started_at       timestamptz,
    finished_at      timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX run_steps_call ON run_steps (run_id, call_id) WHERE kind = 'tool_call';
CREATE INDEX run_steps_run ON run_steps (run_id, number);

CREATE TABLE approvals (
    approval_id  uuid PRIMARY KEY,
    account_id   uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    run_id       uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    thread_id    uuid NOT NULL REFERENCES threads ON DELETE CASCADE,
    agent_id     uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
    call_id      text NOT NULL,
    action       text NOT NULL,
    arguments    jsonb NOT NULL,
    act_hash     text NOT NULL,
    reason       text NOT NULL DEFAULT '',
    pattern      jsonb,
    status       text NOT NULL CHECK (status IN ('pending', 'approved', 'denied', 'expired', 'used', 'void')),
    note         text NOT NULL DEFAULT '',
    decided_by   uuid,
    decided_at   timestamptz,
    expires_at   timestamptz NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (run_id, call_id)
);
CREATE INDEX approvals_account ON approvals (account_id, created_at DESC);

-- Row-level security: without an account in the transaction no row is seen ---------------------------------------------

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['accounts', 'memberships', 'sessions', 'api_keys', 'audit_log', 'credentials', 'model_prices', 'agents',
        'agent_versions', 'agent_drafts', 'permission_rules', 'threads', 'messages', 'runs', 'run_steps', 'approvals']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (account_id = (SELECT vibe_account())) WITH CHECK (account_id = (SELECT vibe_account()))', t);
    END LOOP;
END $$;

ALTER TABLE users ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON users USING (EXISTS (SELECT 1 FROM memberships m WHERE m.user_id = users.user_id AND m.account_id = (SELECT vibe_account())));
ALTER TABLE installation ENABLE ROW LEVEL SECURITY;  -- no policy: reached through functions only

GRANT USAGE ON SCHEMA public TO vibe_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO vibe_app;
REVOKE ALL ON installation FROM vibe_app;
REVOKE UPDATE, DELETE ON audit_log, agent_versions FROM vibe_app;
