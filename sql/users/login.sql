-- The user of an address, whatever its case, with the hash to check. Index: users_email_key.
SELECT id, name, email, role, created_at, password_hash
FROM users
WHERE lower(email) = lower($1)
