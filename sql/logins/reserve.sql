-- Reserves an attempt to log in to the e-mail $1 from the address $2, by counting it as failed until it
-- is released; or returns the seconds that the address must wait before the next. Failures within the
-- last $5 seconds count: $3 from this address, $4 from all addresses unless this one has logged in
-- before, $6 from this address to all e-mails. A limit of 0 is unlimited. To be run under the locks of
-- the e-mail and the address. Index: login_failures_email_hash_failed_at_idx, login_addresses_pkey,
-- login_failures_address_failed_at_idx.
WITH recent AS MATERIALIZED (
    SELECT address, failed_at
    FROM login_failures
    WHERE email_hash = sha256(convert_to(lower($1), 'UTF8'))
        AND failed_at > now() - make_interval(secs => $5::integer)
), limiting AS (
    -- The failure whose expiry allows the next attempt.
    (
        SELECT failed_at
        FROM recent
        WHERE $3::integer > 0 AND address = $2
        ORDER BY failed_at DESC
        OFFSET greatest($3::integer, 1) - 1
        LIMIT 1
    )
    UNION ALL
    (
        SELECT failed_at
        FROM recent
        WHERE $4::integer > 0
            AND NOT EXISTS (
                SELECT
                FROM login_addresses
                WHERE email_hash = sha256(convert_to(lower($1), 'UTF8')) AND address = $2
            )
        ORDER BY failed_at DESC
        OFFSET greatest($4::integer, 1) - 1
        LIMIT 1
    )
    UNION ALL
    (
        SELECT failed_at
        FROM login_failures
        WHERE $6::integer > 0
            AND address = $2
            AND failed_at > now() - make_interval(secs => $5::integer)
        ORDER BY failed_at DESC
        OFFSET greatest($6::integer, 1) - 1
        LIMIT 1
    )
), reserved AS (
    INSERT INTO login_failures (email_hash, address)
    SELECT sha256(convert_to(lower($1), 'UTF8')), $2
    WHERE NOT EXISTS (SELECT FROM limiting)
    RETURNING failed_at
)
SELECT
    ceil(extract(
        epoch FROM max(failed_at) + make_interval(secs => $5::integer) - statement_timestamp()
    ))::integer AS wait,
    (SELECT failed_at FROM reserved) AS reserved_at
FROM limiting
