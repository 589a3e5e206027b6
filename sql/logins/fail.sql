-- Records a failed login to the e-mail $1 from the address $2.
INSERT INTO login_failures (email_hash, address)
VALUES (sha256(convert_to(lower($1), 'UTF8')), $2)
RETURNING failed_at
