-- Replaces the hash $2 of the user $1 by $3, and ends all of the user's sessions but $4, including
-- those of an older program, which have no sid. Returns the sids of the ended sessions. No row: the
-- hash has changed meanwhile. Index: users_pkey, sessions_user_id_idx.
WITH changed AS (
    UPDATE users
    SET password_hash = $3
    WHERE id = $1 AND password_hash = $2
    RETURNING id
), ended AS (
    UPDATE sessions AS s
    SET ended_at = clock_timestamp()
    FROM changed
    WHERE s.user_id = changed.id AND s.sid IS DISTINCT FROM $4 AND s.ended_at IS NULL
    RETURNING s.sid
)
SELECT ARRAY(SELECT sid FROM ended WHERE sid IS NOT NULL) AS ended
FROM changed
