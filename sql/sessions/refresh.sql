-- Exchanges the refresh token of generation $3 of the session $1 of the user $2. No row: no such
-- session. 'rotate': the token was the newest, and the idle timeout of $5 seconds starts again.
-- 'repeat': it was exchanged less than $4 seconds ago, and yields the same successor again.
-- 'reuse': it was exchanged earlier, so it may have been stolen; the session ends. 'over': the
-- session has ended or expired. The seconds left count from the start of the statement. Index:
-- sessions_sid_key, sessions_pkey, users_pkey.
WITH seen AS MATERIALIZED (
    SELECT id, user_id, generation, rotations, idle_until, ended_at
    FROM sessions
    WHERE sid = $1 AND user_id = $2
    FOR NO KEY UPDATE
), judged AS MATERIALIZED (
    SELECT
        id, user_id, idle_until,
        CASE
            WHEN ended_at IS NOT NULL OR idle_until <= clock_timestamp() THEN 'over'
            WHEN generation = $3 THEN 'rotate'
            -- The last rotation produced the current generation, the one before it the previous.
            WHEN rotations[cardinality(rotations) - (generation - $3) + 1]
                > clock_timestamp() - make_interval(secs => $4::integer) THEN 'repeat'
            ELSE 'reuse'
        END AS verdict
    FROM seen
), changed AS (
    UPDATE sessions AS s
    SET (generation, rotations, idle_until, ended_at) = (
        SELECT
            CASE judged.verdict WHEN 'rotate' THEN s.generation + 1 ELSE s.generation END,
            CASE judged.verdict WHEN 'rotate' THEN recent.rotations ELSE s.rotations END,
            CASE judged.verdict
                WHEN 'rotate' THEN least(s.expires_at, now() + make_interval(secs => $5::integer))
                ELSE s.idle_until
            END,
            CASE judged.verdict WHEN 'reuse' THEN clock_timestamp() ELSE s.ended_at END
        FROM (
            SELECT array_agg(latest.at ORDER BY latest.at) AS rotations
            FROM (
                SELECT at
                FROM unnest(s.rotations || clock_timestamp()) AS at
                WHERE at > clock_timestamp() - make_interval(secs => $4::integer)
                ORDER BY at DESC
                LIMIT 100
            ) AS latest
        ) AS recent
    )
    FROM judged
    WHERE s.id = judged.id AND judged.verdict IN ('rotate', 'reuse')
    RETURNING s.idle_until
)
SELECT
    u.id, u.name, u.email, u.role, u.created_at, judged.verdict,
    floor(extract(epoch FROM coalesce(changed.idle_until, judged.idle_until) - now()))::integer
        AS seconds_left
FROM judged
JOIN users AS u ON u.id = judged.user_id
LEFT JOIN changed ON true
