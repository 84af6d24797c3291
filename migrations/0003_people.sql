-- Who belongs to which account is written by named functions alone: a membership that the product's role could add would
-- show it the person behind it. What was migrated is not the product's to change.
REVOKE INSERT, UPDATE, DELETE ON memberships FROM vibe_app;
REVOKE INSERT, DELETE ON users FROM vibe_app;
REVOKE INSERT, DELETE ON accounts FROM vibe_app;
REVOKE ALL ON migrations FROM vibe_app;
