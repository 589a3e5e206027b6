-- People who log in. New table, so nothing waits for a lock.
CREATE TABLE users (
    id            bigint GENERATED ALWAYS AS IDENTITY,
    name          text        NOT NULL,
    email         text        NOT NULL,
    password_hash text        NOT NULL,
    role          text        NOT NULL DEFAULT 'user',
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_name_check CHECK (char_length(name) BETWEEN 1 AND 200),
    CONSTRAINT users_email_check CHECK (char_length(email) BETWEEN 3 AND 254),
    CONSTRAINT users_role_check CHECK (role IN ('user', 'admin'))
);

-- One account an address, whatever its case.
CREATE UNIQUE INDEX users_email_key ON users (lower(email));
