-- Adds many patients with ids from draw_ids.sql, each with its owner.
COPY patients (
    id, created_by, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
    medical_history, notes, emergency_contact_name, emergency_contact_phone
)
FROM STDIN (FORMAT binary)
