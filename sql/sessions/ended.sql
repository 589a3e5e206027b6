-- The sessions that ended in the last $1 seconds. Index: sessions_ended_at_idx.
SELECT id
FROM sessions
WHERE ended_at > statement_timestamp() - make_interval(secs => $1::integer)
