-- One doctor of any size. Index: doctors_pkey.
SELECT
    id, name, specialization, email, phone, license_number, years_of_experience,
    qualification, hospital, address, bio, metadata, created_by, version, created_at, updated_at
FROM doctors
WHERE id = $1
