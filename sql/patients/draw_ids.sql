-- Draws ids for $1 patients that copy.sql adds.
SELECT nextval(pg_get_serial_sequence('patients', 'id')) AS id
FROM generate_series(1, $1::bigint)
