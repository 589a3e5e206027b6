-- The first $2 patients of the user $3 after the id $1, for the shared connection: a `large` one,
-- with more than 2 KiB of long texts, is returned without them. Index: patients_pkey, in order.
SELECT
    id, name, age, gender, date_of_birth, phone, email,
    CASE WHEN NOT large THEN address END AS address, blood_group,
    CASE WHEN NOT large THEN allergies END AS allergies,
    CASE WHEN NOT large THEN medical_history END AS medical_history,
    CASE WHEN NOT large THEN notes END AS notes, emergency_contact_name, emergency_contact_phone,
    CASE WHEN NOT large THEN metadata END AS metadata, created_by, version, created_at, updated_at,
    large
FROM (
    SELECT
        *,
        coalesce(octet_length(address), 0) + coalesce(octet_length(allergies), 0)
            + coalesce(octet_length(medical_history), 0) + coalesce(octet_length(notes), 0)
            + CASE WHEN pg_column_size(metadata) > 64 THEN octet_length(metadata::text) ELSE 64 END
            > 2048 AS large
    FROM patients
    WHERE created_by = $3 AND id > $1
    ORDER BY id
    LIMIT $2
) AS patient
