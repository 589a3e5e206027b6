-- Inserts a doctor, who may be changed by the user $1.
INSERT INTO doctors (
    created_by, name, specialization, email, phone, license_number, years_of_experience,
    qualification, hospital, address, bio, metadata
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, coalesce($12::json, '{}'))
RETURNING
    id, name, specialization, email, phone, license_number, years_of_experience,
    qualification, hospital, address, bio, metadata, created_by, version, created_at, updated_at
