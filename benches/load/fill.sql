-- Fills a database whose users 1, 2, ... have registered: `patients` patients with ids from 1,
-- `each` a user; `doctors` doctors; three of them for each of the first `mapped` patients of every
-- user.
--
--     psql -v patients=100000 -v each=1000 -v doctors=1000 -v mapped=100 -f fill.sql DATABASE
INSERT INTO patients (
    created_by, id, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
    medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata
)
OVERRIDING SYSTEM VALUE
SELECT
    (id - 1) / :each + 1, id, 'Patient ' || id, id % 100,
    (ARRAY['male', 'female', 'other', 'unknown'])[id % 4 + 1],
    DATE '1930-01-01' + (id % 30000)::integer, '+44 20 7946 ' || lpad((id % 10000)::text, 4, '0'),
    'patient' || id || '@example.com', id % 200 || ' Long Lane, London',
    (ARRAY['A+', 'A-', 'B+', 'B-', 'AB+', 'AB-', 'O+', 'O-'])[id % 8 + 1], 'penicillin',
    'Asthma since childhood, well controlled.', 'Prefers to be called in the morning.',
    'Ada Lovelace', '+44 20 7946 0123', '{"ward": "7b"}'
FROM generate_series(1, :patients) AS id;

SELECT setval(pg_get_serial_sequence('patients', 'id'), :patients);

INSERT INTO doctors (
    created_by, name, specialization, email, phone, license_number, years_of_experience,
    qualification, hospital, address, bio
)
SELECT
    1, 'Doctor ' || n, 'Cardiology', 'doctor' || n || '@example.com', '+44 20 7946 0958', 'GMC' || n,
    n % 40, 'MD', 'Saint Mary', '1 Praed Street, London', 'Has worked here for many years.'
FROM generate_series(1, :doctors) AS n;

-- 331 has no factor in common with 1,000, so the three are different doctors.
INSERT INTO mappings (created_by, patient_id, doctor_id, notes)
SELECT created_by, id, (id + 331 * n) % :doctors + 1, 'Once a year'
FROM patients, generate_series(0, 2) AS n
WHERE (id - 1) % :each < :mapped
ORDER BY id, n;

VACUUM ANALYZE;
CHECKPOINT;
