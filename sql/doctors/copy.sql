-- Adds many doctors with ids from draw_ids.sql, each with its creator.
COPY doctors (
    id, created_by, name, specialization, email, phone, license_number, years_of_experience,
    qualification, hospital, address, bio
)
FROM STDIN (FORMAT binary)
