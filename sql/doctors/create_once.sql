-- As create.sql, once for the idempotency key $13, with which the request has the hash $14. The
-- answer is kept with the doctor. A request with the same key that runs right now is not waited
-- for. Index: idempotency_keys_pkey.
WITH kept AS MATERIALIZED (
    SELECT
        request_hash = $14 AS same, resource_id, version,
        CASE WHEN request_hash = $14 THEN answer END AS answer
    FROM idempotency_keys
    WHERE created_by = $1 AND key = $13
), claim AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended($13, $1)) AS free
    WHERE NOT EXISTS (SELECT FROM kept)
), inserted AS (
    INSERT INTO doctors (
        created_by, name, specialization, email, phone, license_number, years_of_experience,
        qualification, hospital, address, bio, metadata
    )
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, coalesce($12::json, '{}')
    FROM claim
    WHERE claim.free
    RETURNING *
), made AS MATERIALIZED (
    SELECT inserted.id, inserted.version, row_to_json(answer) AS answer
    FROM inserted
    CROSS JOIN LATERAL (
        SELECT
            inserted.id, inserted.name, inserted.specialization, inserted.email, inserted.phone,
            inserted.license_number, inserted.years_of_experience, inserted.qualification,
            inserted.hospital, inserted.address, inserted.bio, inserted.metadata,
            inserted.created_by, inserted.version,
            to_char(inserted.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                AS created_at,
            to_char(inserted.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                AS updated_at
    ) AS answer
), keeping AS (
    INSERT INTO idempotency_keys (created_by, key, request_hash, resource_id, version, answer)
    SELECT $1, $13, $14, id, version, answer
    FROM made
)
SELECT
    CASE
        WHEN made.id IS NOT NULL THEN 'done'
        WHEN kept.same THEN 'replayed'
        WHEN NOT kept.same THEN 'reused'
        ELSE 'in_progress'
    END AS verdict,
    coalesce(made.id, kept.resource_id) AS resource_id,
    coalesce(made.version, kept.version) AS version,
    coalesce(made.answer, kept.answer) AS answer
FROM (VALUES (true)) AS request (asked)
LEFT JOIN kept ON true
LEFT JOIN made ON true
