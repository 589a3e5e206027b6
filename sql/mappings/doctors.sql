-- The next $2 doctors of the patient $4 of the user $3 after the mapping id $1, joined for the page
-- alone. No row: no such patient of this user; one row with a null id: nobody is assigned (any more).
-- Index: patients_pkey, mappings_created_by_patient_id_id_idx in order, doctors_pkey.
SELECT
    m.id, m.patient_id, m.doctor_id, m.notes, m.created_at,
    d.id, d.name, d.specialization, d.email, d.phone, d.license_number, d.years_of_experience,
    d.qualification, d.hospital, d.address, d.bio, d.metadata, d.created_by, d.version,
    d.created_at, d.updated_at
FROM patients AS p
LEFT JOIN (
    SELECT id, patient_id, doctor_id, notes, created_at
    FROM mappings
    WHERE created_by = $3 AND patient_id = $4 AND id > $1
    ORDER BY id
    LIMIT $2
) AS m ON true
LEFT JOIN doctors AS d ON d.id = m.doctor_id
WHERE p.created_by = $3 AND p.id = $4
ORDER BY m.id
