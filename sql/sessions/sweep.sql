-- Deletes up to 2,000 sessions that have been over for more than $1 seconds, when none of their
-- tokens can be valid any more: some that were ended, and some that expired. Each half has its own
-- limit; a session may be in both. Index: sessions_ended_at_idx, sessions_idle_until_idx,
-- sessions_pkey.
DELETE FROM sessions
WHERE id = ANY (ARRAY(
    (
        SELECT id
        FROM sessions
        WHERE ended_at < now() - make_interval(secs => $1::integer)
        LIMIT 1000
    )
    UNION ALL
    (
        SELECT id
        FROM sessions
        WHERE idle_until < now() - make_interval(secs => $1::integer)
        LIMIT 1000
    )
))
RETURNING id
