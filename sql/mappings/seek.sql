-- The id of the last row of a page of $2 rows, and of the row behind it, with list's parameters.
-- Index: mappings_pkey, in order.
SELECT id
FROM mappings
WHERE created_by = $3 AND id > $1
    AND ($4::bigint IS NULL OR patient_id = $4)
    AND ($5::bigint IS NULL OR doctor_id = $5)
ORDER BY id
OFFSET $2::bigint - 1
LIMIT 2
