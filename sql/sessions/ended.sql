-- The sessions that have ended since $1, without those of an older program, which have neither a
-- sid nor tokens of this version. Index: sessions_ended_at_idx.
SELECT sid
FROM sessions
WHERE ended_at > $1 AND sid IS NOT NULL
