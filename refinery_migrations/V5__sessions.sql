-- Who is logged in where. A refresh token is an HMAC of the session and its generation, so nothing
-- here is secret. New table, so nothing waits for a lock.
CREATE TABLE sessions (
    id         bigint        GENERATED ALWAYS AS IDENTITY,
    user_id    bigint        NOT NULL,
    -- How many times the refresh token was exchanged, and when it was lately.
    generation integer       NOT NULL DEFAULT 0,
    rotations  timestamptz[] NOT NULL DEFAULT '{}',
    created_at timestamptz   NOT NULL DEFAULT now(),
    expires_at timestamptz   NOT NULL,
    -- Never later than expires_at.
    idle_until timestamptz   NOT NULL,
    ended_at   timestamptz,
    CONSTRAINT sessions_pkey PRIMARY KEY (id),
    CONSTRAINT sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id)
);

-- A change of password ends a user's sessions.
CREATE INDEX sessions_user_id_idx ON sessions (user_id) WHERE ended_at IS NULL;
-- Every instance asks a few times a second which sessions have just ended.
CREATE INDEX sessions_ended_at_idx ON sessions (ended_at) WHERE ended_at IS NOT NULL;
-- What is long over is removed.
CREATE INDEX sessions_idle_until_idx ON sessions (idle_until);
