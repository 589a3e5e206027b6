-- The next $2 patients of the user $3 after the id $1; where they are given, only those whose name,
-- e-mail or phone contains $4 and whose gender is $5, both without case.
-- Index: patients_pkey, in order, filtered: one user's patients are few.
SELECT
    id, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
    medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata,
    created_by, version, created_at, updated_at
FROM patients
WHERE created_by = $3 AND id > $1
    AND ($4::text IS NULL
        OR strpos(lower(name), lower($4)) > 0
        OR strpos(lower(email), lower($4)) > 0
        OR strpos(lower(phone), lower($4)) > 0)
    AND ($5::text IS NULL OR lower(gender) = lower($5))
ORDER BY id
LIMIT $2
