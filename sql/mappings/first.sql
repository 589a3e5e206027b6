-- The first $2 mappings of the user $3 after the mapping id $1, filtered by the patient $4 and the
-- doctor $5 if given, for the shared connection: a `large` one, with more than 1 KiB of notes, is
-- returned without them. The branches are those of list.sql. Index: mappings_pkey,
-- mappings_created_by_patient_id_id_idx, mappings_created_by_doctor_id_id_idx,
-- mappings_patient_id_doctor_id_key, all in order; patients_pkey, doctors_pkey.
SELECT
    m.id, m.patient_id, m.doctor_id, CASE WHEN NOT m.large THEN m.notes END AS notes, m.created_at,
    p.name AS patient_name, d.name AS doctor_name, d.specialization AS doctor_specialization,
    m.large
FROM (
    SELECT *, coalesce(octet_length(notes), 0) > 1024 AS large
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
ORDER BY m.id
LIMIT $2
