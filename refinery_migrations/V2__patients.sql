-- Patients belong to the user who created them. The key starts with the owner, so that one index
-- serves both "mine by id" and "mine in order". New table, so nothing waits for a lock.
CREATE TABLE patients (
    created_by              bigint      NOT NULL,
    id                      bigint      GENERATED ALWAYS AS IDENTITY,
    name                    text        NOT NULL,
    age                     integer,
    gender                  text,
    date_of_birth           date,
    phone                   text,
    email                   text,
    address                 text,
    blood_group             text,
    allergies               text,
    medical_history         text,
    notes                   text,
    emergency_contact_name  text,
    emergency_contact_phone text,
    -- json, not jsonb: what a client sent comes back byte for byte.
    metadata                json        NOT NULL DEFAULT '{}',
    version                 bigint      NOT NULL DEFAULT 1,
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT patients_pkey PRIMARY KEY (created_by, id),
    CONSTRAINT patients_created_by_fkey FOREIGN KEY (created_by) REFERENCES users (id),
    CONSTRAINT patients_name_check CHECK (char_length(name) BETWEEN 1 AND 200),
    CONSTRAINT patients_age_check CHECK (age BETWEEN 0 AND 150),
    CONSTRAINT patients_gender_check
        CHECK (lower(gender) IN ('male', 'female', 'other', 'unknown', 'm', 'f')),
    CONSTRAINT patients_date_of_birth_check CHECK (date_of_birth >= DATE '1850-01-01'),
    CONSTRAINT patients_phone_check CHECK (phone ~ '^[0-9 +().x/#-]{1,32}$'),
    CONSTRAINT patients_email_check CHECK (char_length(email) BETWEEN 3 AND 254),
    CONSTRAINT patients_address_check CHECK (char_length(address) <= 500),
    CONSTRAINT patients_blood_group_check
        CHECK (blood_group IN ('A+', 'A-', 'B+', 'B-', 'AB+', 'AB-', 'O+', 'O-')),
    CONSTRAINT patients_allergies_check CHECK (char_length(allergies) <= 5000),
    CONSTRAINT patients_medical_history_check CHECK (char_length(medical_history) <= 5000),
    CONSTRAINT patients_notes_check CHECK (char_length(notes) <= 5000),
    CONSTRAINT patients_emergency_contact_name_check
        CHECK (char_length(emergency_contact_name) BETWEEN 1 AND 200),
    CONSTRAINT patients_emergency_contact_phone_check
        CHECK (emergency_contact_phone ~ '^[0-9 +().x/#-]{1,32}$'),
    CONSTRAINT patients_metadata_check
        CHECK (json_typeof(metadata) = 'object' AND octet_length(metadata::text) <= 8192)
);
