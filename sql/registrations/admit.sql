-- Notes a registration from the address $1, unless there were $2 in the last $3 seconds: then it
-- returns how many seconds the address must wait. Statements that run at the very same moment do not
-- see each other, and each may let one more through.
-- Index: registrations_address_registered_at_idx.
WITH limiting AS MATERIALIZED (
    -- The registration whose end makes room again.
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
)
SELECT ceil(extract(epoch FROM registered_at + make_interval(secs => $3::integer) - now()))::integer AS wait
FROM limiting
