-- The patient $2 of the user $1, of any size. Index: patients_pkey.
SELECT
    id, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
    medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata,
    created_by, version, created_at, updated_at
FROM patients
WHERE created_by = $1 AND id = $2
