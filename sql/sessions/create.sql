-- Begins a session of $4 seconds at most and $3 seconds without use, if the user's hash is still $2.
-- The lock makes a change of the password wait, which then sees and ends the session.
-- Index: users_pkey.
WITH confirmed AS MATERIALIZED (
    SELECT id
    FROM users
    WHERE id = $1 AND password_hash = $2
    FOR SHARE
)
INSERT INTO sessions (user_id, expires_at, idle_until)
SELECT
    id,
    now() + make_interval(secs => $4::integer),
    now() + make_interval(secs => least($3::integer, $4::integer))
FROM confirmed
RETURNING id
