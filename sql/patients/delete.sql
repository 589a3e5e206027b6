-- Deletes the patient $2 of the user $1, and the patient's mappings by cascade. No row: no such
-- patient of this user. `deleted` is false: the version is not in $3. Index: patients_pkey,
-- mappings_patient_id_doctor_id_key.
WITH seen AS MATERIALIZED (
    SELECT created_by, id, version
    FROM patients
    WHERE created_by = $1 AND id = $2
    FOR UPDATE
), deleted AS (
    DELETE FROM patients AS p
    USING seen
    WHERE p.created_by = seen.created_by AND p.id = seen.id
        AND ($3::bigint[] IS NULL OR seen.version = ANY ($3))
    RETURNING p.id
)
SELECT true AS allowed, EXISTS (SELECT FROM deleted) AS deleted
FROM seen
