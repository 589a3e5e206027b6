-- Ends all sessions of the user $1 but $2, including those of an older program, which have no sid.
-- Index: sessions_user_id_idx.
UPDATE sessions
SET ended_at = clock_timestamp()
WHERE user_id = $1 AND sid IS DISTINCT FROM $2 AND ended_at IS NULL
RETURNING sid
