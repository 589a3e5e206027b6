-- As delete.sql, once for the idempotency key $4, with which the request has the hash $5. That it
-- was done is kept with the deletion. `verdict` says why nothing was deleted; a request with the
-- same key that runs right now is not waited for. Index: idempotency_keys_pkey, patients_pkey,
-- mappings_patient_id_doctor_id_key.
WITH kept AS MATERIALIZED (
    SELECT request_hash = $5 AS same
    FROM idempotency_keys
    WHERE created_by = $1 AND key = $4
), claim AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended($4, $1)) AS free
    WHERE NOT EXISTS (SELECT FROM kept)
), seen AS MATERIALIZED (
    SELECT p.created_by, p.id, p.version
    FROM claim
    JOIN patients AS p ON p.created_by = $1 AND p.id = $2
    WHERE claim.free
    FOR UPDATE OF p
), deleted AS (
    DELETE FROM patients AS p
    USING seen
    WHERE p.created_by = seen.created_by AND p.id = seen.id
        AND ($3::bigint[] IS NULL OR seen.version = ANY ($3))
    RETURNING p.id
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
        ELSE 'stale'
    END AS verdict
FROM (VALUES (true)) AS request (asked)
LEFT JOIN kept ON true
LEFT JOIN claim ON true
LEFT JOIN seen ON true
LEFT JOIN deleted ON true
