-- As create.sql, once for the idempotency key $5, with which the request has the hash $6. The
-- answer is kept with the mapping. `verdict` says why nothing was created; a request with the same
-- key that runs right now is not waited for. Index: idempotency_keys_pkey, patients_pkey,
-- doctors_pkey, mappings_patient_id_doctor_id_key.
WITH kept AS MATERIALIZED (
    SELECT
        request_hash = $6 AS same, resource_id,
        CASE WHEN request_hash = $6 THEN answer END AS answer
    FROM idempotency_keys
    WHERE created_by = $1 AND key = $5
), claim AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended($5, $1)) AS free
    WHERE NOT EXISTS (SELECT FROM kept)
), patient AS (
    SELECT id, name FROM patients WHERE created_by = $1 AND id = $2
), doctor AS (
    SELECT id, name, specialization FROM doctors WHERE id = $3
), m AS (
    INSERT INTO mappings (created_by, patient_id, doctor_id, notes)
    SELECT $1, patient.id, doctor.id, $4
    FROM claim, patient, doctor
    WHERE claim.free
    ON CONFLICT (created_by, patient_id, doctor_id) DO NOTHING
    RETURNING id, patient_id, doctor_id, notes, created_at
), made AS MATERIALIZED (
    SELECT m.id, row_to_json(answer) AS answer
    FROM m, patient, doctor
    CROSS JOIN LATERAL (
        SELECT
            m.id, m.patient_id, m.doctor_id, m.notes,
            to_char(m.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                AS created_at,
            patient, doctor
    ) AS answer
), keeping AS (
    INSERT INTO idempotency_keys (created_by, key, request_hash, resource_id, answer)
    SELECT $1, $5, $6, id, answer
    FROM made
)
SELECT
    CASE
        WHEN made.id IS NOT NULL THEN 'done'
        WHEN kept.same THEN 'replayed'
        WHEN NOT kept.same THEN 'reused'
        WHEN NOT claim.free THEN 'in_progress'
        WHEN patient.id IS NULL THEN 'patient_missing'
        WHEN doctor.id IS NULL THEN 'doctor_missing'
        ELSE 'assigned'
    END AS verdict,
    coalesce(made.id, kept.resource_id) AS resource_id,
    -- Mappings have none.
    NULL::bigint AS version,
    coalesce(made.answer, kept.answer) AS answer
FROM (VALUES (true)) AS request (asked)
LEFT JOIN kept ON true
LEFT JOIN claim ON true
LEFT JOIN patient ON true
LEFT JOIN doctor ON true
LEFT JOIN made ON true
