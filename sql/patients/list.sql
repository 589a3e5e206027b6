-- The next $2 patients of the user $3 after the id $1. If given, filtered by name, e-mail or phone
-- containing $4 and by the gender $5, both case-insensitive. At most 64 KiB: the last row is then
-- `full`. Index: patients_pkey, in order, filtered: one user has few patients.
SELECT
    id, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
    medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata,
    created_by, version, created_at, updated_at,
    total >= 65536 AS full
FROM (
    SELECT *, sum(bytes) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS total
    FROM (
        SELECT
            *,
            256 + coalesce(octet_length(address), 0) + coalesce(octet_length(allergies), 0)
                + coalesce(octet_length(medical_history), 0) + coalesce(octet_length(notes), 0)
                + CASE
                    WHEN pg_column_size(metadata) > 64 THEN octet_length(metadata::text)
                    ELSE 64
                END
                AS bytes
        FROM patients
        WHERE created_by = $3 AND id > $1
            AND ($4::text IS NULL
                OR strpos(lower(name), lower($4)) > 0
                OR strpos(lower(email), lower($4)) > 0
                OR strpos(lower(phone), lower($4)) > 0)
            AND ($5::text IS NULL OR lower(gender) = lower($5))
        ORDER BY id
        LIMIT $2
    ) AS next
) AS summed
WHERE total - bytes < 65536
ORDER BY id
