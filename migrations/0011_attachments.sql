-- Files that people send with their messages. The bytes lie in the data directory, once for each content (`sha256`), however many rows name it.

-- `media_type` is what the bytes are, not what the sender said. `excerpt` is all of a short text.
CREATE TABLE attachments (
    attachment_id  uuid PRIMARY KEY,
    account_id     uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    sha256         bytea NOT NULL,
    size           bigint NOT NULL,
    name           text NOT NULL,
    media_type     text NOT NULL,
    excerpt        text,
    created_by     uuid,
    created_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX attachments_sha256 ON attachments (sha256);
CREATE INDEX attachments_account ON attachments (account_id);
CREATE INDEX attachments_age ON attachments (created_at);

-- What a message brought with it; `file_name` is its name in the workspace's folder, unique in the thread. The message is written after it.
CREATE TABLE message_attachments (
    message_id     uuid NOT NULL REFERENCES messages ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    position       integer NOT NULL,
    account_id     uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    thread_id      uuid NOT NULL REFERENCES threads ON DELETE CASCADE,
    attachment_id  uuid NOT NULL REFERENCES attachments ON DELETE CASCADE,
    file_name      text NOT NULL,
    PRIMARY KEY (message_id, position)
);
CREATE INDEX message_attachments_attachment ON message_attachments (attachment_id);
CREATE INDEX message_attachments_thread ON message_attachments (thread_id, file_name);
CREATE INDEX message_attachments_account ON message_attachments (account_id);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['attachments', 'message_attachments']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (account_id = (SELECT vibe_account())) WITH CHECK (account_id = (SELECT vibe_account()))', t);
        EXECUTE format('GRANT SELECT, INSERT ON %I TO vibe_app', t);
    END LOOP;
END $$;

-- Forget what was uploaded a day ago and no message has, or only messages of threads that cannot be restored any more.
CREATE FUNCTION forget_attachments() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    forgotten integer;
BEGIN
    DELETE FROM attachments a WHERE a.created_at < now() - interval '1 day' AND NOT EXISTS (
        SELECT 1 FROM message_attachments l JOIN threads t ON t.thread_id = l.thread_id
        WHERE l.attachment_id = a.attachment_id AND (t.deleted_at IS NULL OR t.deleted_at > now() - interval '7 days'));
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END $$;

-- Which of these contents no account has a row for.
CREATE FUNCTION nobodys_blobs(p_sha256 bytea[]) RETURNS TABLE (sha256 bytea)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT asked.sha256 FROM unnest(p_sha256) AS asked (sha256) WHERE NOT EXISTS (SELECT 1 FROM attachments a WHERE a.sha256 = asked.sha256) $$;

REVOKE EXECUTE ON FUNCTION forget_attachments, nobodys_blobs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION forget_attachments, nobodys_blobs TO vibe_app;
