-- Deletes up to 1,000 expired failures, and as many addresses not seen for a year. Index:
-- login_failures_failed_at_idx, login_addresses_seen_at_idx.
WITH forgiven AS (
    DELETE FROM login_failures
    WHERE ctid = ANY (ARRAY(
        SELECT ctid
        FROM login_failures
        WHERE failed_at < now() - make_interval(secs => $1::integer)
        LIMIT 1000
    ))
    RETURNING failed_at
), forgotten AS (
    DELETE FROM login_addresses
    WHERE ctid = ANY (ARRAY(
        SELECT ctid
        FROM login_addresses
        WHERE seen_at < now() - interval '1 year'
        LIMIT 1000
    ))
    RETURNING seen_at
)
SELECT (SELECT count(*) FROM forgiven) AS forgiven, (SELECT count(*) FROM forgotten) AS forgotten
