-- As update.sql, once for the idempotency key $5, with which the request has the hash $6. The
-- answer is kept with the change. `verdict` says why nothing was changed; a request with the same
-- key that runs right now is not waited for. Index: idempotency_keys_pkey, patients_pkey.
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
    SELECT p.created_by, p.id, p.version
    FROM claim
    JOIN patients AS p ON p.created_by = $1 AND p.id = $2
    WHERE claim.free
    FOR NO KEY UPDATE OF p
), changed AS (
    UPDATE patients AS p
    SET (
        name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
        medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata,
        version, updated_at
    ) = (
        SELECT
            n.name, n.age, n.gender, n.date_of_birth, n.phone, n.email, n.address,
            n.blood_group, n.allergies,
            n.medical_history, n.notes, n.emergency_contact_name,
            n.emergency_contact_phone, n.metadata,
            p.version + c.changed::integer,
            CASE WHEN c.changed THEN greatest(clock_timestamp(), p.updated_at) ELSE p.updated_at END
        FROM json_populate_record(p, $3) AS n
        CROSS JOIN LATERAL (
            SELECT (
                n.name, n.age, n.gender, n.date_of_birth, n.phone, n.email,
                n.address, n.blood_group, n.allergies,
                n.medical_history, n.notes, n.emergency_contact_name,
                n.emergency_contact_phone, n.metadata::text
            ) IS DISTINCT FROM (
                p.name, p.age, p.gender, p.date_of_birth, p.phone, p.email,
                p.address, p.blood_group, p.allergies,
                p.medical_history, p.notes, p.emergency_contact_name,
                p.emergency_contact_phone, p.metadata::text
            ) AS changed
        ) AS c
    )
    FROM seen
    WHERE p.created_by = seen.created_by AND p.id = seen.id
        AND ($4::bigint[] IS NULL OR seen.version = ANY ($4))
    RETURNING p.*
), made AS MATERIALIZED (
    SELECT changed.id, changed.version, row_to_json(answer) AS answer
    FROM changed
    CROSS JOIN LATERAL (
        SELECT
            changed.id, changed.name, changed.age, changed.gender, changed.date_of_birth,
            changed.phone, changed.email, changed.address, changed.blood_group, changed.allergies,
            changed.medical_history, changed.notes, changed.emergency_contact_name,
            changed.emergency_contact_phone, changed.metadata, changed.created_by, changed.version,
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
