-- Ends the sessions of the user $1 but $2. Index: sessions_user_id_idx.
UPDATE sessions
SET ended_at = clock_timestamp()
WHERE user_id = $1 AND id <> $2 AND ended_at IS NULL
RETURNING id
