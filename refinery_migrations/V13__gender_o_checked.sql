-- Looks at every row for V12, in a transaction of its own: each migration is one, and V12's lock would
-- last as long. This one is SHARE UPDATE EXCLUSIVE; reads and writes of patients go on.
ALTER TABLE patients VALIDATE CONSTRAINT patients_gender_check;
