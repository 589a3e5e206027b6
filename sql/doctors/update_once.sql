-- As update.sql, once for the idempotency key $5, with which the request has the hash $6. The
-- answer is kept with the change. `verdict` says why nothing was changed; a request with the same
-- key that runs right now is not waited for. Index: idempotency_keys_pkey, doctors_pkey.
WITH kept AS MATERIALIZED (
    SELECT
        request_hash = $6 AS same, resource_id, version,
        CASE WHEN request_hash = $6 THEN answer END AS answer
    FROM idempotency_keys
    WHERE created_by = $1 AND key = $5
), claim AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended($5, $1)) AS free
    WHERE NOT EXISTS (SELECT FROM kept)
), seen AS MATERIALIZED (
    SELECT
        d.id, d.version,
        d.created_by = $1
            OR EXISTS (SELECT FROM users WHERE users.id = $1 AND users.role = 'admin') AS allowed
    FROM claim
    JOIN doctors AS d ON d.id = $2
    WHERE claim.free
    FOR NO KEY UPDATE OF d
), changed AS (
    UPDATE doctors AS d
    SET (
        name, specialization, email, phone, license_number, years_of_experience,
        qualification, hospital, address, bio, metadata,
        version, updated_at
    ) = (
        SELECT
            n.name, n.specialization, n.email, n.phone, n.license_number, n.years_of_experience,
            n.qualification, n.hospital, n.address, n.bio, n.metadata,
            d.version + c.changed::integer,
            CASE WHEN c.changed THEN greatest(clock_timestamp(), d.updated_at) ELSE d.updated_at END
        FROM json_populate_record(d, $3) AS n
        CROSS JOIN LATERAL (
            SELECT (
                n.name, n.specialization, n.email, n.phone, n.license_number, n.years_of_experience,
                n.qualification, n.hospital, n.address, n.bio, n.metadata::text
            ) IS DISTINCT FROM (
                d.name, d.specialization, d.email, d.phone, d.license_number, d.years_of_experience,
                d.qualification, d.hospital, d.address, d.bio, d.metadata::text
            ) AS changed
        ) AS c
    )
    FROM seen
    WHERE d.id = seen.id AND seen.allowed
        AND ($4::bigint[] IS NULL OR seen.version = ANY ($4))
    RETURNING d.*
), made AS MATERIALIZED (
    SELECT changed.id, changed.version, row_to_json(answer) AS answer
    FROM changed
    CROSS JOIN LATERAL (
        SELECT
            changed.id, changed.name, changed.specialization, changed.email, changed.phone,
            changed.license_number, changed.years_of_experience, changed.qualification,
            changed.hospital, changed.address, changed.bio, changed.metadata, changed.created_by,
            changed.version,
            to_char(changed.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                AS created_at,
            to_char(changed.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                AS updated_at
    ) AS answer
), keeping AS (
    INSERT INTO idempotency_keys (created_by, key, request_hash, resource_id, version, answer)
    SELECT $1, $5, $6, id, version, answer
    FROM made
)
SELECT
    CASE
        WHEN made.id IS NOT NULL THEN 'done'
        WHEN kept.same THEN 'replayed'
        WHEN NOT kept.same THEN 'reused'
        WHEN NOT claim.free THEN 'in_progress'
        WHEN seen.id IS NULL THEN 'missing'
        WHEN NOT seen.allowed THEN 'forbidden'
        ELSE 'stale'
    END AS verdict,
    coalesce(made.id, kept.resource_id) AS resource_id,
    coalesce(made.version, kept.version) AS version,
    coalesce(made.answer, kept.answer) AS answer
FROM (VALUES (true)) AS request (asked)
LEFT JOIN kept ON true
LEFT JOIN claim ON true
LEFT JOIN seen ON true
LEFT JOIN made ON true
