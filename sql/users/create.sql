-- Creates a user with a random id, and begins the session $6, which expires after $5 seconds or $4
-- seconds of inactivity. No row: the e-mail is taken. Index: users_email_key.
WITH created AS (
    INSERT INTO users (name, email, password_hash)
    VALUES ($1, $2, $3)
    ON CONFLICT (lower(email)) DO NOTHING
    RETURNING id, name, email, role, created_at
), session AS (
    INSERT INTO sessions (sid, user_id, expires_at, idle_until)
    SELECT
        $6,
        id,
        now() + make_interval(secs => $5::integer),
        now() + make_interval(secs => least($4::integer, $5::integer))
    FROM created
    RETURNING extract(epoch FROM idle_until - now())::integer AS seconds_left
)
SELECT
    created.id, created.name, created.email, created.role, created.created_at, session.seconds_left
FROM created, session
