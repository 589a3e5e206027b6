-- Doctors are a directory that every user reads. Neither e-mail nor licence is unique: two clinics
-- may each list a person. New table, so nothing waits for a lock.
CREATE TABLE doctors (
    id                  bigint      GENERATED ALWAYS AS IDENTITY,
    name                text        NOT NULL,
    specialization      text        NOT NULL,
    email               text,
    phone               text,
    license_number      text,
    years_of_experience integer,
    qualification       text,
    hospital            text,
    address             text,
    bio                 text,
    metadata            json        NOT NULL DEFAULT '{}',
    created_by          bigint      NOT NULL,
    version             bigint      NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT doctors_pkey PRIMARY KEY (id),
    CONSTRAINT doctors_created_by_fkey FOREIGN KEY (created_by) REFERENCES users (id),
    CONSTRAINT doctors_name_check CHECK (char_length(name) BETWEEN 1 AND 200),
    CONSTRAINT doctors_specialization_check CHECK (char_length(specialization) BETWEEN 1 AND 100),
    CONSTRAINT doctors_email_check CHECK (char_length(email) BETWEEN 3 AND 254),
    CONSTRAINT doctors_phone_check CHECK (phone ~ '^[0-9 +().x/#-]{1,32}$'),
    CONSTRAINT doctors_license_number_check CHECK (char_length(license_number) <= 64),
    CONSTRAINT doctors_years_of_experience_check CHECK (years_of_experience BETWEEN 0 AND 80),
    CONSTRAINT doctors_qualification_check CHECK (char_length(qualification) <= 200),
    CONSTRAINT doctors_hospital_check CHECK (char_length(hospital) <= 200),
    CONSTRAINT doctors_address_check CHECK (char_length(address) <= 500),
    CONSTRAINT doctors_bio_check CHECK (char_length(bio) <= 2000),
    CONSTRAINT doctors_metadata_check
        CHECK (json_typeof(metadata) = 'object' AND octet_length(metadata::text) <= 8192)
);
