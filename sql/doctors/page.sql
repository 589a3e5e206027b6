-- The ids of the rows of a page of $2 rows, and of one more if there is one, with the parameters of
-- list.sql. Index: doctors_pkey, in order.
SELECT ARRAY(
    SELECT id
    FROM doctors
    WHERE id > $1
        AND ($3::text IS NULL
            OR strpos(lower(name), lower($3)) > 0
            OR strpos(lower(email), lower($3)) > 0
            OR strpos(lower(hospital), lower($3)) > 0)
        AND ($4::text IS NULL OR lower(specialization) = lower($4))
    ORDER BY id
    LIMIT $2::bigint + 1
) AS ids
