-- Adds many mappings, each with the owner of its patient.
COPY mappings (created_by, patient_id, doctor_id, notes)
FROM STDIN (FORMAT binary)
