-- Sets a user's role on the command line. Index: users_email_key.
UPDATE users
SET role = $2
WHERE lower(email) = lower($1)
RETURNING id
