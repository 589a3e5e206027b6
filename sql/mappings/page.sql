-- The ids of the rows of a page of $2 rows, and of one more if there is one, with the parameters and
-- branches of list.sql. Index: mappings_pkey, mappings_created_by_patient_id_id_idx,
-- mappings_created_by_doctor_id_id_idx, mappings_patient_id_doctor_id_key, all in order.
SELECT ARRAY(
    SELECT id
    FROM (
        (
            SELECT id FROM mappings
            WHERE $4::bigint IS NULL AND $5::bigint IS NULL
                AND created_by = $3 AND id > $1
            ORDER BY id LIMIT $2::bigint + 1
        )
        UNION ALL
        (
            SELECT id FROM mappings
            WHERE $5 IS NULL
                AND created_by = $3 AND patient_id = $4 AND id > $1
            ORDER BY id LIMIT $2::bigint + 1
        )
        UNION ALL
        (
            SELECT id FROM mappings
            WHERE $4 IS NULL
                AND created_by = $3 AND doctor_id = $5 AND id > $1
            ORDER BY id LIMIT $2::bigint + 1
        )
        UNION ALL
        (
            SELECT id FROM (
                SELECT id, patient_id, doctor_id FROM mappings
                WHERE created_by = $3 AND (patient_id, doctor_id) >= ($4, $5)
                ORDER BY patient_id, doctor_id LIMIT 1
            ) AS pair
            WHERE patient_id = $4 AND doctor_id = $5 AND id > $1
        )
    ) AS m
    ORDER BY id
    LIMIT $2::bigint + 1
) AS ids
