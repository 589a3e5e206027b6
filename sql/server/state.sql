-- Identifies the server by its start time, its role and its timeline, and returns the time up to
-- which its data is complete: on a standby, that of the last replayed transaction. The watch on
-- sessions uses it to notice another server. Reads no table.
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
