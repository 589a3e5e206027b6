-- Replaces the hash $2 of the user $1 by $3, of the same password or of another. No row: it has
-- changed meanwhile. Index: users_pkey.
UPDATE users
SET password_hash = $3
WHERE id = $1 AND password_hash = $2
RETURNING id
