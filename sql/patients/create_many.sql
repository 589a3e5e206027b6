-- Creates patients of the users $1, and returns them with their places. The ids are drawn first, because
-- PostgreSQL does not promise in which order an INSERT returns its rows.
WITH new AS (
    SELECT nextval('patients_id_seq') AS id, given.*
    FROM unnest(
        $1::bigint[], $2::text[], $3::integer[], $4::text[], $5::date[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
        $15::json[]
    ) WITH ORDINALITY AS given (
        created_by, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
        medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata, place
    )
),
made AS (
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
)
SELECT
    made.id, made.name, made.age, made.gender, made.date_of_birth, made.phone, made.email,
    made.address, made.blood_group, made.allergies, made.medical_history, made.notes,
    made.emergency_contact_name, made.emergency_contact_phone, made.metadata, made.created_by,
    made.version, made.created_at, made.updated_at, new.place
FROM made
JOIN new ON new.id = made.id
