-- Records a successful login to the e-mail $1 from the address $2. Index: login_addresses_pkey.
INSERT INTO login_addresses (email_hash, address)
VALUES (sha256(convert_to(lower($1), 'UTF8')), $2)
ON CONFLICT (email_hash, address) DO UPDATE SET seen_at = now()
RETURNING seen_at
