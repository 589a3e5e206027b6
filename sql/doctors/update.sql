-- Merges the patch $3 into the doctor $2 for the user $1. No row: no such doctor. Not allowed: the
-- user is neither the creator nor an admin. A null id: the version is not in $4. The row is locked
-- before it is read, and the patch is merged into the locked row, so that no concurrent change is
-- lost. Index: doctors_pkey.
WITH seen AS MATERIALIZED (
    SELECT
        id, version,
        created_by = $1
            OR EXISTS (SELECT FROM users WHERE users.id = $1 AND users.role = 'admin') AS allowed
    FROM doctors
    WHERE id = $2
    FOR NO KEY UPDATE
), changed AS (
    UPDATE doctors AS d
    SET (
        name, specialization, email, phone, license_number, years_of_experience,
        qualification, hospital, address, bio, metadata,
        version, updated_at
    ) = (
        SELECT
            n.name, n.specialization, n.email, n.phone, n.license_number, n.years_of_experience,
            n.qualification, n.hospital, n.address, n.bio, n.metadata,
            d.version + c.changed::integer,
            CASE WHEN c.changed THEN greatest(clock_timestamp(), d.updated_at) ELSE d.updated_at END
        FROM json_populate_record(d, $3) AS n
        CROSS JOIN LATERAL (
            SELECT (
                n.name, n.specialization, n.email, n.phone, n.license_number, n.years_of_experience,
                n.qualification, n.hospital, n.address, n.bio, n.metadata::text
            ) IS DISTINCT FROM (
                d.name, d.specialization, d.email, d.phone, d.license_number, d.years_of_experience,
                d.qualification, d.hospital, d.address, d.bio, d.metadata::text
            ) AS changed
        ) AS c
    )
    FROM seen
    WHERE d.id = seen.id AND seen.allowed
        AND ($4::bigint[] IS NULL OR seen.version = ANY ($4))
    RETURNING
        d.id, d.name, d.specialization, d.email, d.phone, d.license_number, d.years_of_experience,
        d.qualification, d.hospital, d.address, d.bio, d.metadata, d.created_by, d.version,
        d.created_at, d.updated_at
)
SELECT
    seen.allowed,
    changed.id, changed.name, changed.specialization, changed.email, changed.phone,
    changed.license_number, changed.years_of_experience,
    changed.qualification, changed.hospital, changed.address, changed.bio, changed.metadata,
    changed.created_by, changed.version, changed.created_at, changed.updated_at
FROM seen
LEFT JOIN changed ON true
