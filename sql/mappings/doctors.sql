-- The next $2 doctors of the patient $4 of the user $3 after the mapping id $1. No row: no such
-- patient of this user; one row with a null id: nobody is assigned (any more).
-- Index: patients_pkey, mappings_patient_id_doctor_id_key, doctors_pkey.
SELECT
    m.id, m.patient_id, m.doctor_id, m.notes, m.created_at,
    d.id, d.name, d.specialization, d.email, d.phone, d.license_number, d.years_of_experience,
    d.qualification, d.hospital, d.address, d.bio, d.metadata, d.created_by, d.version,
    d.created_at, d.updated_at
FROM patients AS p
LEFT JOIN (mappings AS m JOIN doctors AS d ON d.id = m.doctor_id)
    ON m.created_by = p.created_by AND m.patient_id = p.id AND m.id > $1
WHERE p.created_by = $3 AND p.id = $4
ORDER BY m.id
LIMIT $2
