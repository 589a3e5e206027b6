-- The next $2 mappings of the user $3 after the mapping id $1, of the patient $4 and the doctor $5
-- where they are given. One lookup of the key for each patient: joined by the owner alone, it would be all
-- of his patients. Index: mappings_pkey, in order; patients_pkey, doctors_pkey.
SELECT
    m.id, m.patient_id, m.doctor_id, m.notes, m.created_at,
    p.name AS patient_name, d.name AS doctor_name, d.specialization AS doctor_specialization
FROM mappings AS m
CROSS JOIN LATERAL (
    SELECT name
    FROM patients
    WHERE created_by = m.created_by AND id = m.patient_id
    LIMIT 1
) AS p
JOIN doctors AS d ON d.id = m.doctor_id
WHERE m.created_by = $3 AND m.id > $1
    AND ($4::bigint IS NULL OR m.patient_id = $4)
    AND ($5::bigint IS NULL OR m.doctor_id = $5)
ORDER BY m.id
LIMIT $2
