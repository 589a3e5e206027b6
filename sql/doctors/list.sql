-- The next $2 doctors after the id $1. If given, filtered by name, e-mail or hospital containing $3
-- and by the specialization $4, both case-insensitive. At most 64 KiB: the last row is then `full`.
-- Index: doctors_pkey, in order, filtered.
SELECT
    id, name, specialization, email, phone, license_number, years_of_experience,
    qualification, hospital, address, bio, metadata, created_by, version, created_at, updated_at,
    total >= 65536 AS full
FROM (
    SELECT *, sum(bytes) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS total
    FROM (
        SELECT
            *,
            256 + coalesce(octet_length(qualification), 0) + coalesce(octet_length(hospital), 0)
                + coalesce(octet_length(address), 0) + coalesce(octet_length(bio), 0)
                + CASE
                    WHEN pg_column_size(metadata) > 64 THEN octet_length(metadata::text)
                    ELSE 64
                END
                AS bytes
        FROM doctors
        WHERE id > $1
            AND ($3::text IS NULL
                OR strpos(lower(name), lower($3)) > 0
                OR strpos(lower(email), lower($3)) > 0
                OR strpos(lower(hospital), lower($3)) > 0)
            AND ($4::text IS NULL OR lower(specialization) = lower($4))
        ORDER BY id
        LIMIT $2
    ) AS next
) AS summed
WHERE total - bytes < 65536
ORDER BY id
