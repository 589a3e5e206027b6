-- The mapping ids of the last row of a page of $2 rows and of the row after it, with the parameters
-- of doctors.sql. Index: mappings_created_by_patient_id_id_idx, in order.
SELECT id
FROM mappings
WHERE created_by = $3 AND id > $1 AND patient_id = $4
ORDER BY id
OFFSET $2::bigint - 1
LIMIT 2
