-- Deletes up to 1,000 kept answers older than $1 seconds. Index: idempotency_keys_created_at_idx.
DELETE FROM idempotency_keys
WHERE ctid = ANY (ARRAY(
    SELECT ctid
    FROM idempotency_keys
    WHERE created_at < now() - make_interval(secs => $1::integer)
    LIMIT 1000
))
RETURNING created_at
