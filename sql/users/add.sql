-- Creates a user on the command line, without a session. No row: the e-mail is taken. Index:
-- users_email_key.
INSERT INTO users (name, email, password_hash, role)
VALUES ($1, $2, $3, $4)
ON CONFLICT (lower(email)) DO NOTHING
RETURNING id
