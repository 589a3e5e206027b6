-- The password hash of a user. Index: users_pkey.
SELECT password_hash
FROM users
WHERE id = $1
