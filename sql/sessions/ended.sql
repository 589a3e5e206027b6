-- The sessions that have ended since $1. Those of an older program have no sid, and no token of ours.
-- Index: sessions_ended_at_idx.
SELECT sid
FROM sessions
WHERE ended_at > $1 AND sid IS NOT NULL
