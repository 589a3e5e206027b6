-- The sessions that ended in the last $1 seconds. Those of an older program have no sid, and no token of
-- ours. Index: sessions_ended_at_idx.
SELECT sid
FROM sessions
WHERE ended_at > statement_timestamp() - make_interval(secs => $1::integer) AND sid IS NOT NULL
