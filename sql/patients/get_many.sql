-- The patients $2 of the users $1, each with its place among them. One lookup of the key for each, also
-- where PostgreSQL does not know yet how large the table is. Index: patients_pkey.
SELECT
    found.id, found.name, found.age, found.gender, found.date_of_birth, found.phone, found.email,
    found.address, found.blood_group, found.allergies, found.medical_history, found.notes,
    found.emergency_contact_name, found.emergency_contact_phone, found.metadata, found.created_by,
    found.version, found.created_at, found.updated_at, wanted.place
FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS wanted (owner, id, place)
CROSS JOIN LATERAL (
    SELECT *
    FROM patients
    WHERE created_by = wanted.owner AND id = wanted.id
    LIMIT 1
) AS found
