-- Replaces the hash $2 of the user $1 and ends the user's sessions but $4, whose ids it returns in
-- one row. No row: the hash has changed meanwhile. Index: users_pkey, sessions_user_id_idx.
WITH changed AS (
    UPDATE users
    SET password_hash = $3
    WHERE id = $1 AND password_hash = $2
    RETURNING id
), ended AS (
    UPDATE sessions AS s
    SET ended_at = clock_timestamp()
    FROM changed
    WHERE s.user_id = changed.id AND s.id <> $4 AND s.ended_at IS NULL
    RETURNING s.id
)
SELECT ARRAY(SELECT id FROM ended) AS ended
FROM changed
