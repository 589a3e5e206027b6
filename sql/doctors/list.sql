-- The next $2 doctors after the id $1; where they are given, only those whose name, e-mail or
-- hospital contains $3 and whose specialization is $4, both without case.
-- Index: doctors_pkey, in order, filtered.
SELECT
    id, name, specialization, email, phone, license_number, years_of_experience,
    qualification, hospital, address, bio, metadata, created_by, version, created_at, updated_at
FROM doctors
WHERE id > $1
    AND ($3::text IS NULL
        OR strpos(lower(name), lower($3)) > 0
        OR strpos(lower(email), lower($3)) > 0
        OR strpos(lower(hospital), lower($3)) > 0)
    AND ($4::text IS NULL OR lower(specialization) = lower($4))
ORDER BY id
LIMIT $2
