-- `accounts` users, the first of whom get the patients of benches/load/fill.sql. Each has one session,
-- whose sid is the number of its user, has failed to log in three times and has logged in from one address.
INSERT INTO users (id, name, email, password_hash)
SELECT n, 'User ' || n, 'user' || n || '@example.com', repeat('x', 60)
FROM generate_series(1, :accounts) AS n;

INSERT INTO sessions (sid, user_id, expires_at, idle_until)
SELECT lpad(to_hex(id), 32, '0')::uuid, id, now() + interval '30 days', now() + interval '7 days'
FROM users
ORDER BY id;

INSERT INTO login_failures (email_hash, address)
SELECT sha256(email::bytea), '192.0.2.' || n
FROM users, generate_series(1, 3) AS n;

INSERT INTO login_addresses (email_hash, address)
SELECT sha256(email::bytea), '192.0.2.1'
FROM users;
