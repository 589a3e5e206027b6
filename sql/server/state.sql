-- Which server answers, since which start and on which timeline, and the moment up to which it shows
-- what was written: on a standby, that of the last transaction which has reached it. It tells whoever
-- watches the sessions when to ask for all of them again. No table is read.
SELECT
    concat_ws(
        ' ',
        pg_postmaster_start_time(),
        pg_is_in_recovery(),
        (pg_control_checkpoint()).timeline_id
    ) AS server,
    CASE
        WHEN pg_is_in_recovery() THEN coalesce(pg_last_xact_replay_timestamp(), 'epoch')
        ELSE statement_timestamp()
    END AS moment
