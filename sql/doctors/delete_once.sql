-- As delete.sql, once for the idempotency key $4, with which the request has the hash $5. That it
-- was done is kept with the deletion. `verdict` says why nothing was deleted; a request with the
-- same key that runs right now is not waited for. Index: idempotency_keys_pkey, doctors_pkey,
-- mappings_doctor_id_idx.
WITH kept AS MATERIALIZED (
    SELECT request_hash = $5 AS same
    FROM idempotency_keys
    WHERE created_by = $1 AND key = $4
), claim AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended($4, $1)) AS free
    WHERE NOT EXISTS (SELECT FROM kept)
), seen AS MATERIALIZED (
    SELECT
        d.id, d.version,
        d.created_by = $1
            OR EXISTS (SELECT FROM users WHERE users.id = $1 AND users.role = 'admin') AS allowed
    FROM claim
    JOIN doctors AS d ON d.id = $2
    WHERE claim.free
    FOR UPDATE OF d
), deleted AS (
    DELETE FROM doctors AS d
    USING seen
    WHERE d.id = seen.id AND seen.allowed
        AND ($3::bigint[] IS NULL OR seen.version = ANY ($3))
    RETURNING d.id
), keeping AS (
    INSERT INTO idempotency_keys (created_by, key, request_hash)
    SELECT $1, $4, $5
    FROM deleted
)
SELECT
    CASE
        WHEN deleted.id IS NOT NULL THEN 'done'
        WHEN kept.same THEN 'replayed'
        WHEN NOT kept.same THEN 'reused'
        WHEN NOT claim.free THEN 'in_progress'
        WHEN seen.id IS NULL THEN 'missing'
        WHEN NOT seen.allowed THEN 'forbidden'
        ELSE 'stale'
    END AS verdict
FROM (VALUES (true)) AS request (asked)
LEFT JOIN kept ON true
LEFT JOIN claim ON true
LEFT JOIN seen ON true
LEFT JOIN deleted ON true
