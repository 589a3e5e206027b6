-- The first $2 doctors of the patient $4 of the user $3 after the mapping id $1, for the shared
-- connection: a `large` one, with more than 2 KiB of long texts including its mapping's, is
-- returned without them. No row: no such patient of this user; one row with a null id: no doctor is
-- assigned. Index: patients_pkey, mappings_created_by_patient_id_id_idx in order, doctors_pkey.
SELECT
    m.id, m.patient_id, m.doctor_id, CASE WHEN NOT large THEN m.notes END AS notes, m.created_at,
    d.id, d.name, d.specialization, d.email, d.phone, d.license_number, d.years_of_experience,
    CASE WHEN NOT large THEN d.qualification END AS qualification,
    CASE WHEN NOT large THEN d.hospital END AS hospital,
    CASE WHEN NOT large THEN d.address END AS address,
    CASE WHEN NOT large THEN d.bio END AS bio,
    CASE WHEN NOT large THEN d.metadata END AS metadata, d.created_by, d.version, d.created_at,
    d.updated_at, d.large
FROM patients AS p
LEFT JOIN (
    SELECT id, patient_id, doctor_id, notes, created_at
    FROM mappings
    WHERE created_by = $3 AND patient_id = $4 AND id > $1
    ORDER BY id
    LIMIT $2
) AS m ON true
LEFT JOIN LATERAL (
    SELECT
        *,
        coalesce(octet_length(qualification), 0) + coalesce(octet_length(hospital), 0)
            + coalesce(octet_length(address), 0) + coalesce(octet_length(bio), 0)
            + CASE WHEN pg_column_size(metadata) > 64 THEN octet_length(metadata::text) ELSE 64 END
            + coalesce(octet_length(m.notes), 0) > 2048 AS large
    FROM doctors
    WHERE id = m.doctor_id
    LIMIT 1
) AS d ON true
WHERE p.created_by = $3 AND p.id = $4
ORDER BY m.id
