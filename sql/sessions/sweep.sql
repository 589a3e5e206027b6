-- Removes up to 1,000 sessions that are over for more than $1 seconds, when no token of theirs can
-- be valid any more. Index: sessions_ended_at_idx, sessions_idle_until_idx, sessions_pkey.
DELETE FROM sessions
WHERE id = ANY (ARRAY(
    SELECT id
    FROM sessions
    WHERE ended_at < now() - make_interval(secs => $1::integer)
    UNION
    SELECT id
    FROM sessions
    WHERE idle_until < now() - make_interval(secs => $1::integer)
    LIMIT 1000
))
RETURNING id
