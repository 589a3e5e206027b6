-- As create_many.sql, each row that has an idempotency key ($16, else null) once for it. With that
-- key its request has the hash $17. The answer is kept with the patient. Every row of the input is
-- returned, with a `verdict`: a request with the same key that runs right now, or comes earlier in
-- the arrays, is not waited for. Index: idempotency_keys_pkey.
WITH input AS MATERIALIZED (
    SELECT *, row_number() OVER (PARTITION BY created_by, key ORDER BY ordinal) AS turn
    FROM unnest(
        $1::bigint[], $2::text[], $3::integer[], $4::text[], $5::date[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
        $15::json[], $16::text[], $17::bytea[]
    ) WITH ORDINALITY AS input (
        created_by, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
        medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata, key,
        request_hash, ordinal
    )
), kept AS MATERIALIZED (
    SELECT
        input.ordinal, k.request_hash = input.request_hash AS same, k.resource_id, k.version,
        CASE WHEN k.request_hash = input.request_hash THEN k.answer END AS answer
    FROM input
    JOIN idempotency_keys AS k ON k.created_by = input.created_by AND k.key = input.key
), new AS MATERIALIZED (
    SELECT nextval('patients_id_seq') AS id, input.*
    FROM input
    WHERE NOT EXISTS (SELECT FROM kept WHERE kept.ordinal = input.ordinal)
        AND (
            key IS NULL
            OR (turn = 1 AND pg_try_advisory_xact_lock(hashtextextended(key, created_by)))
        )
), inserted AS (
    INSERT INTO patients (
        id, created_by, name, age, gender, date_of_birth, phone, email, address, blood_group,
        allergies, medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata
    )
    OVERRIDING SYSTEM VALUE
    SELECT
        id, created_by, name, age, gender, date_of_birth, phone, email, address, blood_group,
        allergies, medical_history, notes, emergency_contact_name, emergency_contact_phone,
        coalesce(metadata, '{}')
    FROM new
    RETURNING *
), made AS MATERIALIZED (
    SELECT
        inserted.created_by, inserted.id, inserted.version, new.ordinal, new.key, new.request_hash,
        row_to_json(answer) AS answer
    FROM inserted
    JOIN new ON new.id = inserted.id
    CROSS JOIN LATERAL (
        SELECT
            inserted.id, inserted.name, inserted.age, inserted.gender, inserted.date_of_birth,
            inserted.phone, inserted.email, inserted.address, inserted.blood_group,
            inserted.allergies, inserted.medical_history, inserted.notes,
            inserted.emergency_contact_name, inserted.emergency_contact_phone, inserted.metadata,
            inserted.created_by, inserted.version,
            to_char(inserted.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                AS created_at,
            to_char(inserted.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                AS updated_at
    ) AS answer
), keeping AS (
    INSERT INTO idempotency_keys (created_by, key, request_hash, resource_id, version, answer)
    SELECT created_by, key, request_hash, id, version, answer
    FROM made
    WHERE key IS NOT NULL
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
    coalesce(made.answer, kept.answer) AS answer,
    input.ordinal
FROM input
LEFT JOIN kept ON kept.ordinal = input.ordinal
LEFT JOIN made ON made.ordinal = input.ordinal
