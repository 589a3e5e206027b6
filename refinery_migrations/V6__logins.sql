-- Failed logins, by a hash of the address that was tried, whether or not it has an account: the hash
-- bounds the size and keeps mistyped addresses out. New tables, so nothing waits for a lock.
CREATE TABLE login_failures (
    email_hash bytea       NOT NULL,
    -- An IPv4 address, or the network of an IPv6 address.
    address    text        NOT NULL,
    failed_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX login_failures_email_hash_failed_at_idx ON login_failures (email_hash, failed_at);
CREATE INDEX login_failures_failed_at_idx ON login_failures (failed_at);

-- From where an account was logged in to, so that a flood of failures from everywhere does not lock
-- its owner out.
CREATE TABLE login_addresses (
    email_hash bytea       NOT NULL,
    address    text        NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT login_addresses_pkey PRIMARY KEY (email_hash, address)
);

CREATE INDEX login_addresses_seen_at_idx ON login_addresses (seen_at);
