-- Ends the session $1 of the user $2. Index: sessions_sid_key.
UPDATE sessions
SET ended_at = clock_timestamp()
WHERE sid = $1 AND user_id = $2 AND ended_at IS NULL
RETURNING id
