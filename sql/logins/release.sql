-- Gives back the attempt to log in to the e-mail $1 that was reserved at $2. Index:
-- login_failures_failed_at_idx.
DELETE FROM login_failures
WHERE email_hash = sha256(convert_to(lower($1), 'UTF8')) AND failed_at = $2
RETURNING failed_at
