-- Limits for an address as a whole: on failed logins to whichever account, and on registrations.
-- Failed logins wait while the index is built, a moment: the table holds those of a quarter of an hour.
CREATE INDEX login_failures_address_failed_at_idx ON login_failures (address, failed_at);

-- Registrations of the last hour, also those that were refused because the e-mail address was taken.
-- Of the account nothing is kept here. New table, so nothing waits for a lock.
CREATE TABLE registrations (
    -- As in login_failures.
    address       text        NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX registrations_address_registered_at_idx ON registrations (address, registered_at);
CREATE INDEX registrations_registered_at_idx ON registrations (registered_at);
