-- Adds lines that were checked, after create.sql on the same connection.
COPY imported_lines (
    line, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
    medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata
)
FROM STDIN (FORMAT binary)
