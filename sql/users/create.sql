-- Registers a user; no row when the address is taken. Index: users_email_key.
INSERT INTO users (name, email, password_hash)
VALUES ($1, $2, $3)
ON CONFLICT (lower(email)) DO NOTHING
RETURNING id, name, email, role, created_at
