-- The patients $2 of the users $1 with the columns of get.sql, each with its ordinal in the arrays.
-- LATERAL with LIMIT 1 makes it one index lookup for each, even while PostgreSQL has no statistics
-- of the table. Index: patients_pkey.
SELECT
    found.id, found.name, found.age, found.gender, found.date_of_birth, found.phone, found.email,
    CASE WHEN NOT large THEN address END AS address, found.blood_group,
    CASE WHEN NOT large THEN allergies END AS allergies,
    CASE WHEN NOT large THEN medical_history END AS medical_history,
    CASE WHEN NOT large THEN notes END AS notes, found.emergency_contact_name,
    found.emergency_contact_phone, CASE WHEN NOT large THEN metadata END AS metadata,
    found.created_by, found.version, found.created_at, found.updated_at, found.large,
    requested.ordinal
FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS requested (owner, id, ordinal)
CROSS JOIN LATERAL (
    SELECT
        *,
        coalesce(octet_length(address), 0) + coalesce(octet_length(allergies), 0)
            + coalesce(octet_length(medical_history), 0) + coalesce(octet_length(notes), 0)
            + CASE WHEN pg_column_size(metadata) > 64 THEN octet_length(metadata::text) ELSE 64 END
            > 2048 AS large
    FROM patients
    WHERE created_by = requested.owner AND id = requested.id
    LIMIT 1
) AS found
