-- The user with an e-mail, in any case, and the password hash. Index: users_email_key.
SELECT id, name, email, role, created_at, password_hash
FROM users
WHERE lower(email) = lower($1)
