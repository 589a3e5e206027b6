-- Inserts patients of the users $1, and returns them with their ordinals in the arrays. Ids are
-- drawn before the INSERT, because PostgreSQL does not guarantee the order of the rows that
-- RETURNING yields.
WITH new AS (
    SELECT nextval('patients_id_seq') AS id, input.*
    FROM unnest(
        $1::bigint[], $2::text[], $3::integer[], $4::text[], $5::date[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
        $15::json[]
    ) WITH ORDINALITY AS input (
        created_by, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
        medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata, ordinal
    )
),
inserted AS (
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
    inserted.id, inserted.name, inserted.age, inserted.gender, inserted.date_of_birth,
    inserted.phone, inserted.email, inserted.address, inserted.blood_group, inserted.allergies,
    inserted.medical_history, inserted.notes, inserted.emergency_contact_name,
    inserted.emergency_contact_phone, inserted.metadata, inserted.created_by, inserted.version,
    inserted.created_at, inserted.updated_at, new.ordinal
FROM inserted
JOIN new ON new.id = inserted.id
