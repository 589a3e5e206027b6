-- Deletes the doctor $2 for the user $1. No row: no such doctor. `allowed` is false: the user is
-- neither the creator nor an admin. `deleted` is false: the version is not in $3. A doctor who is
-- assigned raises mappings_doctor_id_fkey. Index: doctors_pkey, mappings_doctor_id_idx.
WITH seen AS MATERIALIZED (
    SELECT
        id, version,
        created_by = $1
            OR EXISTS (SELECT FROM users WHERE users.id = $1 AND users.role = 'admin') AS allowed
    FROM doctors
    WHERE id = $2
    FOR UPDATE
), deleted AS (
    DELETE FROM doctors AS d
    USING seen
    WHERE d.id = seen.id AND seen.allowed
        AND ($3::bigint[] IS NULL OR seen.version = ANY ($3))
    RETURNING d.id
)
SELECT seen.allowed, EXISTS (SELECT FROM deleted) AS deleted
FROM seen
