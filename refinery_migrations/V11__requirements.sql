-- The oldest program that may serve once a migration has run, for those that say so. A program that is
-- older does not start. New table, so nothing waits for a lock.
CREATE TABLE schema_requirements (
    -- The migration's number.
    version integer NOT NULL,
    -- Like 0.3.0.
    minimum text    NOT NULL,
    CONSTRAINT schema_requirements_pkey PRIMARY KEY (version)
);
