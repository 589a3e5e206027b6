-- The ids of the rows of a page of $2 rows, and of one more if there is one, with the parameters of
-- list.sql. Index: patients_pkey, in order.
SELECT ARRAY(
    SELECT id
    FROM patients
    WHERE created_by = $3 AND id > $1
        AND ($4::text IS NULL
            OR strpos(lower(name), lower($4)) > 0
            OR strpos(lower(email), lower($4)) > 0
            OR strpos(lower(phone), lower($4)) > 0)
        AND ($5::text IS NULL OR lower(gender) = lower($5))
    ORDER BY id
    LIMIT $2::bigint + 1
) AS ids
