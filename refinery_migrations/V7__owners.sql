-- How many rows an owner has differs more than PostgreSQL's average can tell: where most owners have one
-- row, it takes the owner alone for as good a key as the owner and a patient together, and reads all that
-- a large owner has. So it is told that there are 1,000 rows an owner. It learns so at the next ANALYZE,
-- which autovacuum runs. Nothing but ANALYZE and other changes to the table waits for this lock.
ALTER TABLE patients ALTER COLUMN created_by SET (n_distinct = -0.001);
ALTER TABLE mappings ALTER COLUMN created_by SET (n_distinct = -0.001);
