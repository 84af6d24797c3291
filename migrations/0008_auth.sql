-- Signing in with tokens, as Supabase's clients do, and through Supabase itself.

-- `email_confirmed_at` says that whoever has the address has proved it, or that the operator vouches for it: an outside identity is linked to a
-- person by such an address only. `metadata` is what a client keeps with its person (`user_metadata`).
ALTER TABLE users ADD COLUMN email_confirmed_at timestamptz, ADD COLUMN last_sign_in_at timestamptz, ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}';
UPDATE users SET email_confirmed_at = created_at;

-- How a session was opened: password, recovery, or through Supabase.
ALTER TABLE sessions ADD COLUMN method text NOT NULL DEFAULT 'password';

-- Embeddings want pgvector; where it is not installed, `vibe doctor` says so.
DO $$ BEGIN
    IF EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'vector') THEN CREATE EXTENSION IF NOT EXISTS vector; END IF;
END $$;

-- What follows has no policy at all: the product's role reaches it through the functions below only.

-- A session's chain of refresh tokens, numbered from 1. Only the last one is unused. The next one follows from the one before by a key of the
-- product's, so nothing has to be kept to answer the same again.
CREATE TABLE refresh_tokens (
    token_hash  bytea PRIMARY KEY,
    session_id  uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    number      integer NOT NULL,
    used_at     timestamptz,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (session_id, number)
);

CREATE TABLE recoveries (
    user_id     uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    token_hash  bytea NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);

CREATE TABLE identities (
    provider    text NOT NULL,
    subject     text NOT NULL,
    user_id     uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, subject),
    UNIQUE (user_id, provider)
);

-- The Supabase session behind a browser's session. `due_at` is when it wants to be refreshed; who refreshes it moves that on first.
CREATE TABLE supabase_sessions (
    session_id  uuid PRIMARY KEY REFERENCES sessions ON DELETE CASCADE,
    sealed      bytea NOT NULL,
    due_at      timestamptz NOT NULL
);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['refresh_tokens', 'recoveries', 'identities', 'supabase_sessions'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('REVOKE ALL ON %I FROM vibe_app', t);
    END LOOP;
END $$;

-- Facts of the installation that are made once: the first one stays, and is returned.
CREATE FUNCTION installation_keep(p_name text, p_value jsonb) RETURNS jsonb LANGUAGE sql SECURITY DEFINER SET search_path = public
    AS $$ INSERT INTO installation (name, value) VALUES (p_name, p_value)
          ON CONFLICT (name) DO UPDATE SET value = installation.value RETURNING value $$;

-- Another person with an account of his own; false when somebody has the address, or when nobody is there yet: the first one is made by set-up.
CREATE FUNCTION create_person(p_user uuid, p_account uuid, p_email text, p_name text, p_password_hash text, p_confirmed boolean, p_metadata jsonb)
    RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM users) THEN RETURN false; END IF;
    INSERT INTO users (user_id, email, name, password_hash, email_confirmed_at, metadata)
    VALUES (p_user, p_email, p_name, p_password_hash, CASE WHEN p_confirmed THEN now() END, p_metadata)
    ON CONFLICT (lower(email)) DO NOTHING;
    IF NOT FOUND THEN RETURN false; END IF;
    INSERT INTO accounts (account_id, name) VALUES (p_account, p_name);
    INSERT INTO memberships (account_id, user_id, role) VALUES (p_account, p_user, 'owner');
    RETURN true;
END $$;

-- The owner is made by whoever holds the machine, who vouches for the address.
CREATE FUNCTION confirm_first_person() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM users) THEN NEW.email_confirmed_at := coalesce(NEW.email_confirmed_at, now()); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER users_first BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION confirm_first_person();

CREATE FUNCTION auth_person(p_user uuid)
    RETURNS TABLE (user_id uuid, email text, name text, password_hash text, metadata jsonb, email_confirmed_at timestamptz,
                   last_sign_in_at timestamptz, created_at timestamptz, updated_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT u.user_id, u.email, u.name, u.password_hash, u.metadata, u.email_confirmed_at, u.last_sign_in_at, u.created_at, u.updated_at
    FROM users u WHERE u.user_id = p_user $$;

CREATE FUNCTION open_token_session(p_session uuid, p_account uuid, p_user uuid, p_hash bytea, p_refresh bytea, p_user_agent text,
                                   p_network text, p_method text, p_days integer)
    RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    DELETE FROM sessions s WHERE s.user_id = p_user AND s.expires_at < now();
    INSERT INTO sessions (session_id, account_id, user_id, token_hash, user_agent, network, method, expires_at)
    SELECT p_session, m.account_id, m.user_id, p_hash, p_user_agent, p_network, p_method, now() + make_interval(days => p_days)
    FROM memberships m WHERE m.account_id = p_account AND m.user_id = p_user;
    IF NOT FOUND THEN RAISE EXCEPTION 'no member of this account'; END IF;
    INSERT INTO refresh_tokens (token_hash, session_id, number) VALUES (p_refresh, p_session, 1);
    UPDATE users SET last_sign_in_at = now() WHERE users.user_id = p_user;
END $$;

-- Use a refresh token. `steps` is how far the chain's end is from it: 1 after its first use. Within ten seconds of that (tabs that refresh side by
-- side, an answer that was lost on its way) using it again is no harm. Later it is: somebody has a copy, and the session ends.
CREATE FUNCTION use_refresh_token(p_hash bytea, p_next bytea, p_days integer)
    RETURNS TABLE (outcome text, session_id uuid, user_id uuid, account_id uuid, method text, opened_at timestamptz, steps integer)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
#variable_conflict use_column
DECLARE
    s sessions%ROWTYPE;
    t refresh_tokens%ROWTYPE;
    last integer;
BEGIN
    SELECT x.* INTO s FROM sessions x JOIN refresh_tokens r ON r.session_id = x.session_id WHERE r.token_hash = p_hash FOR UPDATE OF x;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'unknown', NULL::uuid, NULL::uuid, NULL::uuid, NULL::text, NULL::timestamptz, 0;
        RETURN;
    END IF;
    SELECT r.* INTO t FROM refresh_tokens r WHERE r.token_hash = p_hash;
    SELECT max(r.number) INTO last FROM refresh_tokens r WHERE r.session_id = s.session_id;
    IF s.expires_at < now() THEN
        outcome := 'expired';
    ELSIF t.used_at IS NULL THEN
        outcome := 'used';
        last := t.number + 1;
        UPDATE refresh_tokens r SET used_at = clock_timestamp() WHERE r.token_hash = p_hash;
        INSERT INTO refresh_tokens (token_hash, session_id, number) VALUES (p_next, s.session_id, last);
        UPDATE sessions x SET last_used_at = now(), expires_at = now() + make_interval(days => p_days) WHERE x.session_id = s.session_id;
    ELSIF t.used_at > clock_timestamp() - interval '10 seconds' THEN
        outcome := 'used';
    ELSE
        outcome := 'reused';
        DELETE FROM sessions x WHERE x.session_id = s.session_id;
    END IF;
    RETURN QUERY SELECT outcome, s.session_id, s.user_id, s.account_id, s.method, s.created_at, last - t.number;
END $$;

-- Whose access token it is while its session lasts, in the session's account or in another one of the person's; `role` is null when he is no member.
CREATE FUNCTION token_session(p_session uuid, p_user uuid, p_account uuid)
    RETURNS TABLE (account_id uuid, role text, method text, opened_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT coalesce(p_account, s.account_id), m.role, s.method, s.created_at
    FROM sessions s LEFT JOIN memberships m ON m.user_id = s.user_id AND m.account_id = coalesce(p_account, s.account_id)
    WHERE s.session_id = p_session AND s.user_id = p_user AND s.expires_at > now() $$;

CREATE FUNCTION put_recovery(p_user uuid, p_hash bytea, p_minutes integer) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$
    INSERT INTO recoveries (user_id, token_hash, expires_at) VALUES (p_user, p_hash, now() + make_interval(mins => p_minutes))
    ON CONFLICT (user_id) DO UPDATE SET token_hash = excluded.token_hash, created_at = now(), expires_at = excluded.expires_at $$;

-- Whose recovery it is, once. What reached him by mail proves his address.
CREATE FUNCTION use_recovery(p_hash bytea, p_email text) RETURNS TABLE (user_id uuid, account_id uuid)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
#variable_conflict use_column
BEGIN
    DELETE FROM recoveries r USING users u WHERE r.token_hash = p_hash AND u.user_id = r.user_id AND r.expires_at > now()
        AND (p_email IS NULL OR lower(u.email) = lower(p_email)) RETURNING r.user_id INTO user_id;
    IF NOT FOUND THEN RETURN; END IF;
    UPDATE users SET email_confirmed_at = coalesce(email_confirmed_at, now()) WHERE users.user_id = use_recovery.user_id;
    RETURN QUERY SELECT m.user_id, m.account_id FROM memberships m WHERE m.user_id = use_recovery.user_id ORDER BY m.created_at LIMIT 1;
END $$;

-- Who an outside identity is here, in his first account or in another one of his; `role` is null when he is no member of that.
CREATE FUNCTION person_by_identity(p_provider text, p_subject text, p_account uuid) RETURNS TABLE (user_id uuid, account_id uuid, role text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT i.user_id, m.account_id, m.role
    FROM identities i LEFT JOIN memberships m ON m.user_id = i.user_id AND m.account_id = coalesce(p_account, m.account_id)
    WHERE i.provider = p_provider AND i.subject = p_subject ORDER BY m.created_at LIMIT 1 $$;

-- Link an identity, whose address its provider has verified, to the person with that address: `linked`; `unconfirmed` when nobody has verified that it
-- is his here, `taken` when he has another identity of this provider, `nobody` when there is no such person.
CREATE FUNCTION link_identity(p_provider text, p_subject text, p_email text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE u users%ROWTYPE;
BEGIN
    SELECT x.* INTO u FROM users x WHERE lower(x.email) = lower(p_email) FOR UPDATE;
    IF NOT FOUND THEN RETURN 'nobody'; END IF;
    IF u.email_confirmed_at IS NULL THEN RETURN 'unconfirmed'; END IF;
    INSERT INTO identities (provider, subject, user_id) VALUES (p_provider, p_subject, u.user_id) ON CONFLICT DO NOTHING;
    IF EXISTS (SELECT 1 FROM identities i WHERE i.provider = p_provider AND i.subject = p_subject AND i.user_id = u.user_id) THEN RETURN 'linked'; END IF;
    RETURN 'taken';
END $$;

-- A person who comes from outside for the first time, with an account and his identity; false when somebody has the address or nobody is there yet.
CREATE FUNCTION create_linked_person(p_user uuid, p_account uuid, p_provider text, p_subject text, p_email text, p_name text, p_confirmed boolean,
                                     p_metadata jsonb) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    IF NOT create_person(p_user, p_account, p_email, p_name, NULL, p_confirmed, p_metadata) THEN RETURN false; END IF;
    INSERT INTO identities (provider, subject, user_id) VALUES (p_provider, p_subject, p_user);
    RETURN true;
END $$;

-- Whether somebody asks whoever has this address into an account.
CREATE FUNCTION is_invited(p_email text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT EXISTS (SELECT 1 FROM invitations i WHERE lower(i.email) = lower(p_email) AND i.accepted_at IS NULL AND i.expires_at > now()) $$;

-- The Supabase session behind the browser's session of this hash.
CREATE FUNCTION keep_supabase_session(p_hash bytea, p_sealed bytea, p_seconds integer) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$
    INSERT INTO supabase_sessions (session_id, sealed, due_at)
    SELECT s.session_id, p_sealed, now() + make_interval(secs => p_seconds) FROM sessions s WHERE s.token_hash = p_hash
    ON CONFLICT (session_id) DO UPDATE SET sealed = excluded.sealed, due_at = excluded.due_at $$;

-- Its sealed refresh token when it wants to be refreshed: for one asker, who has a minute for it.
CREATE FUNCTION claim_supabase_refresh(p_hash bytea) RETURNS TABLE (sealed bytea) LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$
    UPDATE supabase_sessions x SET due_at = now() + interval '60 seconds' FROM sessions s
    WHERE s.token_hash = p_hash AND x.session_id = s.session_id AND x.due_at <= now() RETURNING x.sealed $$;

REVOKE EXECUTE ON FUNCTION installation_keep, create_person, confirm_first_person, auth_person, open_token_session, use_refresh_token, token_session,
    put_recovery, use_recovery, person_by_identity, link_identity, create_linked_person, is_invited, keep_supabase_session, claim_supabase_refresh FROM PUBLIC;
GRANT EXECUTE ON FUNCTION installation_keep, create_person, auth_person, open_token_session, use_refresh_token, token_session,
    put_recovery, use_recovery, person_by_identity, link_identity, create_linked_person, is_invited, keep_supabase_session, claim_supabase_refresh TO vibe_app;
