-- Records a successful login to the e-mail $1 from the address $2, and gives back the attempt that was
-- reserved at $3, if it is not null. Index: login_addresses_pkey,
-- login_failures_failed_at_idx.
WITH released AS (
    DELETE FROM login_failures
    WHERE email_hash = sha256(convert_to(lower($1), 'UTF8')) AND failed_at = $3
)
INSERT INTO login_addresses (email_hash, address)
VALUES (sha256(convert_to(lower($1), 'UTF8')), $2)
ON CONFLICT (email_hash, address) DO UPDATE SET seen_at = now()
RETURNING seen_at
