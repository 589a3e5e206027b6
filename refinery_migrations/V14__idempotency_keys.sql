-- The answers to writes that came with an Idempotency-Key, so that a client that has lost one can send its
-- request again without doing it twice. Each is written by the same statement as its effect, so that
-- neither is there without the other. New table, so nothing waits for a lock.
CREATE TABLE idempotency_keys (
    created_by   bigint      NOT NULL,
    key          text        NOT NULL,
    -- SHA-256 of the request: another one must not get this answer.
    request_hash bytea       NOT NULL,
    -- The resource in the answer, and its version if it has any; null if it was deleted.
    resource_id  bigint,
    version      bigint,
    -- json, not jsonb: it is the body of the answer, byte for byte. Null if it has none.
    answer       json,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (created_by, key),
    -- They go with their user, whom they must not keep from being deleted.
    CONSTRAINT idempotency_keys_created_by_fkey FOREIGN KEY (created_by)
        REFERENCES users (id) ON DELETE CASCADE
);

-- What is older than a day is removed.
CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);
