-- The kept answer of the user $1 for the key $2, with the columns of a statement *_once, if there is
-- one; `reused` if its request had another hash than $3. Index: idempotency_keys_pkey.
SELECT
    CASE WHEN request_hash = $3 THEN 'replayed' ELSE 'reused' END AS verdict,
    resource_id, version,
    CASE WHEN request_hash = $3 THEN answer END AS answer
FROM idempotency_keys
WHERE created_by = $1 AND key = $2
