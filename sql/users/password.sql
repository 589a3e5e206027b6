-- The e-mail and the password hash of a user. Index: users_pkey.
SELECT email, password_hash
FROM users
WHERE id = $1
