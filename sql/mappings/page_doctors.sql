-- The mapping ids of the rows of a page of $2 rows, and of one more if there is one, with the
-- parameters of doctors.sql. Index: mappings_created_by_patient_id_id_idx, in order.
SELECT ARRAY(
    SELECT id
    FROM mappings
    WHERE created_by = $3 AND id > $1 AND patient_id = $4
    ORDER BY id
    LIMIT $2::bigint + 1
) AS ids
