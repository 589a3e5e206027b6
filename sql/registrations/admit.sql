-- Records a registration from the address $1, and returns its time, unless there were $2 within the
-- last $3 seconds: then returns the seconds that the address must wait. To be run under the lock of
-- the address. Index: registrations_address_registered_at_idx.
WITH limiting AS MATERIALIZED (
    -- The registration whose expiry allows the next one.
    SELECT registered_at
    FROM registrations
    WHERE address = $1 AND registered_at > now() - make_interval(secs => $3::integer)
    ORDER BY registered_at DESC
    OFFSET $2::integer - 1
    LIMIT 1
), noted AS (
    INSERT INTO registrations (address)
    SELECT $1
    WHERE NOT EXISTS (SELECT FROM limiting)
    RETURNING registered_at
)
SELECT
    ceil(extract(
        epoch FROM
            limiting.registered_at + make_interval(secs => $3::integer) - statement_timestamp()
    ))::integer AS wait,
    noted.registered_at
FROM (VALUES (true)) AS request (asked)
LEFT JOIN limiting ON true
LEFT JOIN noted ON true
