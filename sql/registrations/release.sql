-- Takes back the registration that the address $1 was admitted to at $2. Index:
-- registrations_registered_at_idx.
DELETE FROM registrations
WHERE address = $1 AND registered_at = $2
RETURNING registered_at
