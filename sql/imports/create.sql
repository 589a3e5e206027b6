-- Where an import keeps its lines until the last one has come. It goes with the import's connection.
-- Until then no transaction is open, and no table of the service is touched.
CREATE TEMPORARY TABLE imported_lines (
    line                    bigint NOT NULL,
    name                    text   NOT NULL,
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
    metadata                json
)
