-- Clients that write m and f for a gender write o for the third. The new rule takes all that the old one
-- took, so that an older program goes on as before.
--
-- NOT VALID leaves out the look at every row, which would hold up everybody: this takes an ACCESS
-- EXCLUSIVE lock on patients, but only for an instant once it has it. V13 makes up for the look.
ALTER TABLE patients
    DROP CONSTRAINT patients_gender_check,
    ADD CONSTRAINT patients_gender_check
        CHECK (lower(gender) IN ('male', 'female', 'other', 'unknown', 'm', 'f', 'o')) NOT VALID;
