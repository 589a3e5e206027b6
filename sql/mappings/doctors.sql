-- The next $2 doctors of the patient $4 of the user $3 after the mapping id $1. At most 64 KiB: the
-- last row is then `full`. Index: mappings_created_by_patient_id_id_idx in order, doctors_pkey.
SELECT
    id, patient_id, doctor_id, notes, created_at,
    doctor_id AS id, name, specialization, email, phone, license_number, years_of_experience,
    qualification, hospital, address, bio, metadata, created_by, version,
    doctor_created_at AS created_at, updated_at, total >= 65536 AS full
FROM (
    SELECT *, sum(bytes) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS total
    FROM (
        SELECT
            m.id, m.patient_id, m.doctor_id, m.notes, m.created_at,
            d.name, d.specialization, d.email, d.phone, d.license_number, d.years_of_experience,
            d.qualification, d.hospital, d.address, d.bio, d.metadata, d.created_by, d.version,
            d.created_at AS doctor_created_at, d.updated_at,
            256 + coalesce(octet_length(qualification), 0) + coalesce(octet_length(hospital), 0)
                + coalesce(octet_length(address), 0) + coalesce(octet_length(bio), 0)
                + CASE
                    WHEN pg_column_size(metadata) > 64 THEN octet_length(metadata::text)
                    ELSE 64
                END
                + coalesce(octet_length(notes), 0) AS bytes
        FROM (
            SELECT id, patient_id, doctor_id, notes, created_at
            FROM mappings
            WHERE created_by = $3 AND patient_id = $4 AND id > $1
            ORDER BY id
            LIMIT $2
        ) AS m
        CROSS JOIN LATERAL (SELECT * FROM doctors WHERE id = m.doctor_id LIMIT 1) AS d
        ORDER BY m.id
    ) AS next
) AS summed
WHERE total - bytes < 65536
ORDER BY summed.id
