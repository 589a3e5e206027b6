-- The ids of the last row of a page of $2 rows and of the row after it, with the parameters of
-- list.sql. Index: doctors_pkey, in order.
SELECT id
FROM doctors
WHERE id > $1
    AND ($3::text IS NULL
        OR strpos(lower(name), lower($3)) > 0
        OR strpos(lower(email), lower($3)) > 0
        OR strpos(lower(hospital), lower($3)) > 0)
    AND ($4::text IS NULL OR lower(specialization) = lower($4))
ORDER BY id
OFFSET $2::bigint - 1
LIMIT 2
