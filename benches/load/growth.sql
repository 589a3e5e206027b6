-- 32 patients by id in one statement, as sql/patients/get_many.sql asks for them: what growth costs
-- PostgreSQL alone. `few` of the 1,000 patients of each of `users` users take part, in a database
-- that fill.sql has filled:
--
--     pgbench -n -M prepared -c2 -T10 -Dusers=1000 -Dfew=40 -f growth.sql DATABASE
SELECT found.*
FROM (
    SELECT
        (1 + floor(random() * :users))::bigint AS owner, (1 + floor(random() * :few))::bigint AS number
    FROM generate_series(1, 32)
) AS wanted
CROSS JOIN LATERAL (
    SELECT *
    FROM patients
    WHERE created_by = wanted.owner AND id = (wanted.owner - 1) * 1000 + wanted.number
    LIMIT 1
) AS found;
