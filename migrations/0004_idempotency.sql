-- What was made under a caller's Idempotency-Key, for a day: asking twice makes one.
CREATE TABLE idempotency_keys (
    account_id  uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    key         text NOT NULL,
    request     bytea NOT NULL,
    object_id   uuid NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (account_id, created_at);
ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON idempotency_keys USING (account_id = (SELECT vibe_account())) WITH CHECK (account_id = (SELECT vibe_account()));
GRANT SELECT, INSERT, DELETE ON idempotency_keys TO vibe_app;
