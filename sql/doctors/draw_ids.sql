-- Draws ids for $1 doctors that copy.sql adds.
SELECT nextval(pg_get_serial_sequence('doctors', 'id')) AS id
FROM generate_series(1, $1::bigint)
