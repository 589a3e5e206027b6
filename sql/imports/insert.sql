-- Inserts the imported lines as patients of the user $1, after create.sql on the same connection.
-- PostgreSQL draws the ids as it inserts, and so in the order of the lines.
INSERT INTO patients (
    created_by, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
    medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata
)
SELECT
    $1::bigint, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
    medical_history, notes, emergency_contact_name, emergency_contact_phone,
    coalesce(metadata, '{}')
FROM imported_lines
ORDER BY line
