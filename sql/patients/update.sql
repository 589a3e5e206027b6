-- Merges the patch $3 into the patient $2 of the user $1. No row: no such patient of this user. A
-- null id: the version is not in $4. The row is locked before it is read, and the patch is merged
-- into the locked row, so that no concurrent change is lost. Index: patients_pkey.
WITH seen AS MATERIALIZED (
    SELECT created_by, id, version
    FROM patients
    WHERE created_by = $1 AND id = $2
    FOR NO KEY UPDATE
), changed AS (
    UPDATE patients AS p
    SET (
        name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
        medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata,
        version, updated_at
    ) = (
        SELECT
            n.name, n.age, n.gender, n.date_of_birth, n.phone, n.email, n.address,
            n.blood_group, n.allergies,
            n.medical_history, n.notes, n.emergency_contact_name,
            n.emergency_contact_phone, n.metadata,
            p.version + c.changed::integer,
            CASE WHEN c.changed THEN greatest(clock_timestamp(), p.updated_at) ELSE p.updated_at END
        FROM json_populate_record(p, $3) AS n
        CROSS JOIN LATERAL (
            SELECT (
                n.name, n.age, n.gender, n.date_of_birth, n.phone, n.email,
                n.address, n.blood_group, n.allergies,
                n.medical_history, n.notes, n.emergency_contact_name,
                n.emergency_contact_phone, n.metadata::text
            ) IS DISTINCT FROM (
                p.name, p.age, p.gender, p.date_of_birth, p.phone, p.email,
                p.address, p.blood_group, p.allergies,
                p.medical_history, p.notes, p.emergency_contact_name,
                p.emergency_contact_phone, p.metadata::text
            ) AS changed
        ) AS c
    )
    FROM seen
    WHERE p.created_by = seen.created_by AND p.id = seen.id
        AND ($4::bigint[] IS NULL OR seen.version = ANY ($4))
    RETURNING
        p.id, p.name, p.age, p.gender, p.date_of_birth, p.phone, p.email, p.address,
        p.blood_group, p.allergies,
        p.medical_history, p.notes, p.emergency_contact_name, p.emergency_contact_phone, p.metadata,
        p.created_by, p.version, p.created_at, p.updated_at
)
SELECT
    true AS allowed,
    changed.id, changed.name, changed.age, changed.gender, changed.date_of_birth, changed.phone,
    changed.email, changed.address, changed.blood_group, changed.allergies,
    changed.medical_history, changed.notes, changed.emergency_contact_name,
    changed.emergency_contact_phone, changed.metadata,
    changed.created_by, changed.version, changed.created_at, changed.updated_at
FROM seen
LEFT JOIN changed ON true
