-- Assigns the doctor $3 to the patient $2 of the user $1. A null patient_name: no such patient of
-- this user; a null doctor_name: no such doctor; a null id: already assigned. A patient or doctor
-- who is deleted concurrently raises the foreign key. Index: patients_pkey, doctors_pkey,
-- mappings_patient_id_doctor_id_key.
WITH patient AS (
    SELECT id, name FROM patients WHERE created_by = $1 AND id = $2
), doctor AS (
    SELECT id, name, specialization FROM doctors WHERE id = $3
), m AS (
    INSERT INTO mappings (created_by, patient_id, doctor_id, notes)
    SELECT $1, patient.id, doctor.id, $4
    FROM patient, doctor
    ON CONFLICT (created_by, patient_id, doctor_id) DO NOTHING
    RETURNING id, patient_id, doctor_id, notes, created_at
)
SELECT
    m.id, m.patient_id, m.doctor_id, m.notes, m.created_at,
    p.name AS patient_name, d.name AS doctor_name, d.specialization AS doctor_specialization
FROM (VALUES (true)) AS request (asked)
LEFT JOIN patient AS p ON true
LEFT JOIN doctor AS d ON true
LEFT JOIN m ON true
