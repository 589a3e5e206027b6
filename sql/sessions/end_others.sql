-- Ends all sessions of the user $1 but $2, including those of an older program, which have no sid, if
-- the hash of the user's password is $3. Returns the sids of the ended sessions; no row if the hash is
-- another. Index: users_pkey, sessions_user_id_idx.
WITH confirmed AS (
    SELECT id
    FROM users
    WHERE id = $1 AND password_hash = $3
), ended AS (
    UPDATE sessions AS s
    SET ended_at = clock_timestamp()
    FROM confirmed
    WHERE s.user_id = confirmed.id AND s.sid IS DISTINCT FROM $2 AND s.ended_at IS NULL
    RETURNING s.sid
)
SELECT ARRAY(SELECT sid FROM ended WHERE sid IS NOT NULL) AS ended
FROM confirmed
