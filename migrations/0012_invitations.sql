-- An invitation takes the place of an unused one for the same address in one statement: two who ask at the same moment both succeed.
GRANT UPDATE (invitation_id, email, role, token_hash, invited_by, created_at, expires_at) ON invitations TO vibe_app;
