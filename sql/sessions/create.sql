-- Begins the session $5, which expires after $4 seconds or $3 seconds of inactivity, if the user's
-- hash is still $2. The row lock makes a concurrent password change wait, which then sees and ends
-- the session. Index: users_pkey.
WITH confirmed AS MATERIALIZED (
    SELECT id
    FROM users
    WHERE id = $1 AND password_hash = $2
    FOR SHARE
)
INSERT INTO sessions (sid, user_id, expires_at, idle_until)
SELECT
    $5,
    id,
    now() + make_interval(secs => $4::integer),
    now() + make_interval(secs => least($3::integer, $4::integer))
FROM confirmed
RETURNING extract(epoch FROM idle_until - now())::integer AS seconds_left
