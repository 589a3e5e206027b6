-- Registers a user and begins a session of $5 seconds at most and $4 seconds without use; no row
-- when the address is taken. Index: users_email_key.
WITH created AS (
    INSERT INTO users (name, email, password_hash)
    VALUES ($1, $2, $3)
    ON CONFLICT (lower(email)) DO NOTHING
    RETURNING id, name, email, role, created_at
), session AS (
    INSERT INTO sessions (user_id, expires_at, idle_until)
    SELECT
        id,
        now() + make_interval(secs => $5::integer),
        now() + make_interval(secs => least($4::integer, $5::integer))
    FROM created
    RETURNING id
)
SELECT created.id, created.name, created.email, created.role, created.created_at, session.id AS session_id
FROM created, session
