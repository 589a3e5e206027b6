-- Creates a patient of one of `users` users, as sql/patients/create.sql with the values of
-- create.lua. They stand here as literals, because pgbench cannot name texts; that spares
-- PostgreSQL a little work:
--
--     pgbench -n -M prepared -c 32 -j 2 -T 10 -D users=100 -f create.sql DATABASE
\set user random(1, :users)
INSERT INTO patients (
    created_by, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
    medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata
)
VALUES (
    :user, 'Grace Hopper', 36, 'female', '1990-02-28', '+44 20 7946 0958', 'grace@example.com',
    '12 Long Lane, London', 'O+', 'penicillin', 'Asthma since childhood, well controlled.',
    'Prefers to be called in the morning.', 'Ada Lovelace', '+44 20 7946 0123',
    coalesce('{"ward": "7b"}'::json, '{}')
)
RETURNING
    id, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
    medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata,
    created_by, version, created_at, updated_at;
