-- Whether there is a user. Index: users_pkey.
SELECT EXISTS (SELECT FROM users) AS found
