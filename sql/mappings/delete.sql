-- Deletes the mapping $2 of the user $1. Index: mappings_pkey.
DELETE FROM mappings
WHERE created_by = $1 AND id = $2
RETURNING id
