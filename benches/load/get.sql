-- One patient by id, as sql/patients/get.sql, spread over `users` users with `each` patients each,
-- whose ids are in a row:
--
--     pgbench -n -M prepared -c 16 -j 2 -T 10 -D users=100 -D each=1000 -f get.sql DATABASE
\set user random(1, :users)
\set id (:user - 1) * :each + random(1, :each)
SELECT
    id, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
    medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata,
    created_by, version, created_at, updated_at
FROM patients
WHERE created_by = :user AND id = :id;
