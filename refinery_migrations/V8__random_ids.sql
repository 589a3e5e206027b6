-- A database that is restored from a backup, or promoted after a failover, hands out the numbers of its
-- sequences again. So nothing that a token rests on is a number of a sequence.
--
-- Sessions: 128 random bits of their own. Those that a running older program begins have none, and no token
-- of this version opens them. A column without a default is added without touching a row, and the index
-- over it is empty: PostgreSQL only reads the table once, a million sessions in 0.2 s. Meanwhile whoever
-- uses sessions waits.
ALTER TABLE sessions ADD COLUMN sid uuid;
CREATE UNIQUE INDEX sessions_sid_key ON sessions (sid) WHERE sid IS NOT NULL;

-- Users: 52 random bits, from 1 on, which is below 2^53, up to where JavaScript reads whole numbers
-- exactly. The last 13 of the 32 hexadecimal digits of a random UUID (RFC 9562, section 5.4) hold no part of
-- its version or variant. Users who exist keep their ids. No row is touched; the lock lasts a moment.
ALTER TABLE users
    ALTER COLUMN id DROP IDENTITY,
    ALTER COLUMN id SET DEFAULT
        ('x' || right(replace(gen_random_uuid()::text, '-', ''), 13))::bit(52)::bigint + 1;
