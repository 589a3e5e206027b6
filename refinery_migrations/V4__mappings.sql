-- Who treats whom. The owner stands in both keys, so that a mapping can only name a patient of the
-- same user. New table, so nothing waits for a lock.
CREATE TABLE mappings (
    created_by bigint      NOT NULL,
    id         bigint      GENERATED ALWAYS AS IDENTITY,
    patient_id bigint      NOT NULL,
    doctor_id  bigint      NOT NULL,
    notes      text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT mappings_pkey PRIMARY KEY (created_by, id),
    CONSTRAINT mappings_patient_id_doctor_id_key UNIQUE (created_by, patient_id, doctor_id),
    CONSTRAINT mappings_patient_id_fkey FOREIGN KEY (created_by, patient_id)
        REFERENCES patients (created_by, id) ON DELETE CASCADE,
    CONSTRAINT mappings_doctor_id_fkey FOREIGN KEY (doctor_id)
        REFERENCES doctors (id) ON DELETE RESTRICT,
    CONSTRAINT mappings_notes_check CHECK (char_length(notes) <= 2000)
);

-- Deleting a doctor looks for assignments here.
CREATE INDEX mappings_doctor_id_idx ON mappings (doctor_id);
