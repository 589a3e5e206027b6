-- Deletes up to 1,000 registrations older than $1 seconds, which no longer count. Index:
-- registrations_registered_at_idx.
DELETE FROM registrations
WHERE ctid = ANY (ARRAY(
    SELECT ctid
    FROM registrations
    WHERE registered_at < now() - make_interval(secs => $1::integer)
    LIMIT 1000
))
RETURNING registered_at
