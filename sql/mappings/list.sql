-- The next $2 mappings of the user $3 after the mapping id $1, filtered by the patient $4 and the
-- doctor $5 if given. One UNION branch for each of the four cases, each with an index that has its
-- rows in order; the branches of the other cases read nothing. With both ids there is at most one
-- mapping: the first one at or after the pair in the order of the key, if it matches. (An equality
-- could be planned on another index, which reads all mappings of the doctor.) Names are looked up
-- for the rows of the page only, one by one: a join on the owner alone would read all of the
-- owner's patients. At most 64 KiB: the last row is then `full`. Index: mappings_pkey,
-- mappings_created_by_patient_id_id_idx, mappings_created_by_doctor_id_id_idx,
-- mappings_patient_id_doctor_id_key, all in order; patients_pkey, doctors_pkey.
SELECT
    m.id, m.patient_id, m.doctor_id, m.notes, m.created_at,
    p.name AS patient_name, d.name AS doctor_name, d.specialization AS doctor_specialization,
    m.total >= 65536 AS full
FROM (
    SELECT
        *,
        sum(256 + coalesce(octet_length(notes), 0))
            OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS total
    FROM (
        (
            SELECT * FROM mappings
            WHERE $4::bigint IS NULL AND $5::bigint IS NULL
                AND created_by = $3 AND id > $1
            ORDER BY id LIMIT $2
        )
        UNION ALL
        (
            SELECT * FROM mappings
            WHERE $5 IS NULL
                AND created_by = $3 AND patient_id = $4 AND id > $1
            ORDER BY id LIMIT $2
        )
        UNION ALL
        (
            SELECT * FROM mappings
            WHERE $4 IS NULL
                AND created_by = $3 AND doctor_id = $5 AND id > $1
            ORDER BY id LIMIT $2
        )
        UNION ALL
        (
            SELECT * FROM (
                SELECT * FROM mappings
                WHERE created_by = $3 AND (patient_id, doctor_id) >= ($4, $5)
                ORDER BY patient_id, doctor_id LIMIT 1
            ) AS pair
            WHERE patient_id = $4 AND doctor_id = $5 AND id > $1
        )
    ) AS part
) AS m
CROSS JOIN LATERAL (
    SELECT name
    FROM patients
    WHERE created_by = m.created_by AND id = m.patient_id
    LIMIT 1
) AS p
CROSS JOIN LATERAL (
    SELECT name, specialization
    FROM doctors
    WHERE id = m.doctor_id
    LIMIT 1
) AS d
WHERE m.total - 256 - coalesce(octet_length(m.notes), 0) < 65536
ORDER BY m.id
LIMIT $2
