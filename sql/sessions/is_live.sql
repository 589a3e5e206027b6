-- Returns a row if the session $1 of the user $2 exists and is not over by the clock of the database,
-- whatever that of this machine says. Index: sessions_sid_key.
SELECT id
FROM sessions
WHERE sid = $1 AND user_id = $2 AND ended_at IS NULL AND idle_until > now()
