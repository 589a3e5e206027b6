-- A row if the session $1 of the user $2 has not ended. Index: sessions_pkey.
SELECT id
FROM sessions
WHERE id = $1 AND user_id = $2 AND ended_at IS NULL
