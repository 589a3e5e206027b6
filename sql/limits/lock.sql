-- Waits for the lock of the kind $1 and the key $2, whose case does not matter, and holds it to the
-- end of the transaction. Who counts something under it has seen all that was counted under it before.
SELECT pg_advisory_xact_lock($1::integer, hashtext(lower($2)))
