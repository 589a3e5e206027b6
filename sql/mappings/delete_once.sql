-- As delete.sql, once for the idempotency key $3, with which the request has the hash $4. That it
-- was done is kept with the deletion. `verdict` says why nothing was deleted; a request with the
-- same key that runs right now is not waited for. Index: idempotency_keys_pkey, mappings_pkey.
WITH kept AS MATERIALIZED (
    SELECT request_hash = $4 AS same
    FROM idempotency_keys
    WHERE created_by = $1 AND key = $3
), claim AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended($3, $1)) AS free
    WHERE NOT EXISTS (SELECT FROM kept)
), deleted AS (
    DELETE FROM mappings AS m
    USING claim
    WHERE claim.free AND m.created_by = $1 AND m.id = $2
    RETURNING m.id
), keeping AS (
    INSERT INTO idempotency_keys (created_by, key, request_hash)
    SELECT $1, $3, $4
    FROM deleted
)
SELECT
    CASE
        WHEN deleted.id IS NOT NULL THEN 'done'
        WHEN kept.same THEN 'replayed'
        WHEN NOT kept.same THEN 'reused'
        WHEN NOT claim.free THEN 'in_progress'
        ELSE 'missing'
    END AS verdict
FROM (VALUES (true)) AS request (asked)
LEFT JOIN kept ON true
LEFT JOIN claim ON true
LEFT JOIN deleted ON true
