-- The first $2 doctors after the id $1, for the shared connection: a `large` one, with more than 2
-- KiB of long texts, is returned without them. Index: doctors_pkey, in order.
SELECT
    id, name, specialization, email, phone, license_number, years_of_experience,
    CASE WHEN NOT large THEN qualification END AS qualification,
    CASE WHEN NOT large THEN hospital END AS hospital,
    CASE WHEN NOT large THEN address END AS address,
    CASE WHEN NOT large THEN bio END AS bio,
    CASE WHEN NOT large THEN metadata END AS metadata, created_by, version, created_at, updated_at,
    large
FROM (
    SELECT
        *,
        coalesce(octet_length(qualification), 0) + coalesce(octet_length(hospital), 0)
            + coalesce(octet_length(address), 0) + coalesce(octet_length(bio), 0)
            + CASE WHEN pg_column_size(metadata) > 64 THEN octet_length(metadata::text) ELSE 64 END
            > 2048 AS large
    FROM doctors
    WHERE id > $1
    ORDER BY id
    LIMIT $2
) AS doctor
