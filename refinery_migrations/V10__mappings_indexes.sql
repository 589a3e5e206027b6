-- The doctors of one patient and the patients of one doctor, in the order of the list: a page is read
-- from where it begins to where it ends, however many mappings a patient or a doctor has.
-- Writes to mappings wait while the indexes are built, about a second for some million rows; reads do
-- not.
CREATE INDEX mappings_created_by_patient_id_id_idx ON mappings (created_by, patient_id, id);
CREATE INDEX mappings_created_by_doctor_id_id_idx ON mappings (created_by, doctor_id, id);
