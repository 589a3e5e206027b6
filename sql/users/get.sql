-- The user of an access token. Index: users_pkey.
SELECT id, name, email, role, created_at
FROM users
WHERE id = $1
