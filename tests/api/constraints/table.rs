//! For each constraint, SQL and a request that would violate it.

use healthcare_backend::db::Sql;

pub struct Violation {
    pub constraint: &'static str,
    /// Violates it on the rows of the test.
    pub sql: &'static str,
    /// The statement of the service that could violate it.
    pub statement: Sql,
    /// The error of the violation, and of the request.
    pub code: &'static str,
    pub field: Option<&'static str>,
    /// None if no request violates it alone.
    pub request: Option<Request>,
}

/// A request that would violate it if it were not refused before.
#[derive(Clone, Copy)]
pub struct Request {
    pub method: &'static str,
    /// Names in braces stand for ids, here and in the body.
    pub path: &'static str,
    pub body: &'static str,
    pub field: Option<&'static str>,
    pub by_a_user_who_is_gone: bool,
}

/// A check of the column of one field.
macro_rules! check {
    ($constraint:literal, $field:literal, $sql:literal, $statement:ident, $request:expr) => {
        Violation {
            constraint: $constraint,
            sql: $sql,
            statement: Sql::$statement,
            code: "validation_failed",
            field: Some($field),
            request: Some(Request { field: Some($field), ..$request }),
        }
    };
}

/// A key, whose violation is not the error of one field.
macro_rules! key {
    ($constraint:literal, $code:literal, $sql:literal, $statement:ident, $request:expr) => {
        Violation {
            constraint: $constraint,
            sql: $sql,
            statement: Sql::$statement,
            code: $code,
            field: None,
            request: Some($request),
        }
    };
}

/// A key that no request violates alone.
macro_rules! no_request {
    ($constraint:literal, $code:literal, $sql:literal, $statement:ident) => {
        Violation {
            constraint: $constraint,
            sql: $sql,
            statement: Sql::$statement,
            code: $code,
            field: None,
            request: None,
        }
    };
}

const fn request(method: &'static str, path: &'static str, body: &'static str) -> Request {
    Request { method, path, body, field: None, by_a_user_who_is_gone: false }
}

const fn register(body: &'static str) -> Request {
    request("POST", "/api/auth/register", body)
}

const fn patient(body: &'static str) -> Request {
    request("PATCH", "/api/patients/{patient}", body)
}

const fn doctor(body: &'static str) -> Request {
    request("PATCH", "/api/doctors/{doctor}", body)
}

const fn mapping(body: &'static str) -> Request {
    request("POST", "/api/mappings", body)
}

const fn by_a_user_who_is_gone(request: Request) -> Request {
    Request { by_a_user_who_is_gone: true, ..request }
}

pub const TABLE: &[Violation] = &[
    check!(
        "users_name_check",
        "name",
        "UPDATE users SET name = '' WHERE id = 1",
        UsersCreate,
        register(r#"{"name":"","email":"n{random}@example.com","password":"long enough"}"#)
    ),
    check!(
        "users_email_check",
        "email",
        "UPDATE users SET email = 'a@' WHERE id = 1",
        UsersCreate,
        register(r#"{"name":"N","email":"a@","password":"long enough"}"#)
    ),
    check!(
        "users_role_check",
        "role",
        "UPDATE users SET role = 'king' WHERE id = 1",
        UsersSetRole,
        register(
            r#"{"name":"N","email":"n{random}@example.com","password":"long enough","role":"king"}"#
        )
    ),
    key!(
        "users_email_key",
        "email_taken",
        "INSERT INTO users (name, email, password_hash) VALUES ('C', 'A@EXAMPLE.com', 'x')",
        UsersCreate,
        register(r#"{"name":"N","email":"TAKEN@Example.com","password":"long enough"}"#)
    ),
    no_request!(
        "users_pkey",
        "database_unavailable",
        "INSERT INTO users (id, name, email, password_hash) VALUES (1, 'C', 'c@example.com', 'x')",
        UsersCreate
    ),
    no_request!(
        "sessions_sid_key",
        "database_unavailable",
        "INSERT INTO sessions (sid, user_id, expires_at, idle_until)
         SELECT sid, 1, now(), now()
         FROM unnest(array_fill(gen_random_uuid(), ARRAY[2])) AS sid",
        SessionsCreate
    ),
    // The service does not delete users.
    key!(
        "sessions_user_id_fkey",
        "invalid_token",
        "INSERT INTO sessions (user_id, expires_at, idle_until) VALUES (3, now(), now())",
        SessionsCreate,
        by_a_user_who_is_gone(request(
            "PUT",
            "/api/auth/password",
            r#"{"current_password":"correct horse","new_password":"another horse"}"#
        ))
    ),
    check!(
        "patients_name_check",
        "name",
        "UPDATE patients SET name = repeat('x', 201) WHERE id = 1",
        PatientsUpdate,
        patient(r#"{"name":""}"#)
    ),
    check!(
        "patients_age_check",
        "age",
        "UPDATE patients SET age = 151 WHERE id = 1",
        PatientsUpdate,
        patient(r#"{"age":-1}"#)
    ),
    check!(
        "patients_gender_check",
        "gender",
        "UPDATE patients SET gender = 'man' WHERE id = 1",
        PatientsUpdate,
        patient(r#"{"gender":"man"}"#)
    ),
    check!(
        "patients_date_of_birth_check",
        "date_of_birth",
        "UPDATE patients SET date_of_birth = '1849-12-31' WHERE id = 1",
        PatientsUpdate,
        patient(r#"{"date_of_birth":"1849-12-31"}"#)
    ),
    check!(
        "patients_phone_check",
        "phone",
        "UPDATE patients SET phone = '' WHERE id = 1",
        PatientsUpdate,
        patient(r#"{"phone":"x!"}"#)
    ),
    check!(
        "patients_email_check",
        "email",
        "UPDATE patients SET email = 'a@' WHERE id = 1",
        PatientsUpdate,
        patient(r#"{"email":"a@"}"#)
    ),
    check!(
        "patients_address_check",
        "address",
        "UPDATE patients SET address = repeat('x', 501) WHERE id = 1",
        PatientsUpdate,
        patient(r#"{"address":"{long}"}"#)
    ),
    check!(
        "patients_blood_group_check",
        "blood_group",
        "UPDATE patients SET blood_group = 'C+' WHERE id = 1",
        PatientsUpdate,
        patient(r#"{"blood_group":"C+"}"#)
    ),
    check!(
        "patients_allergies_check",
        "allergies",
        "UPDATE patients SET allergies = repeat('x', 5001) WHERE id = 1",
        PatientsUpdate,
        patient(r#"{"allergies":"{long}"}"#)
    ),
    check!(
        "patients_medical_history_check",
        "medical_history",
        "UPDATE patients SET medical_history = repeat('x', 5001) WHERE id = 1",
        PatientsUpdate,
        patient(r#"{"medical_history":"{long}"}"#)
    ),
    check!(
        "patients_notes_check",
        "notes",
        "UPDATE patients SET notes = repeat('x', 5001) WHERE id = 1",
        PatientsUpdate,
        patient(r#"{"notes":"{long}"}"#)
    ),
    check!(
        "patients_emergency_contact_name_check",
        "emergency_contact_name",
        "UPDATE patients SET emergency_contact_name = '' WHERE id = 1",
        PatientsUpdate,
        patient(r#"{"emergency_contact_name":""}"#)
    ),
    check!(
        "patients_emergency_contact_phone_check",
        "emergency_contact_phone",
        "UPDATE patients SET emergency_contact_phone = '1\t' WHERE id = 1",
        PatientsUpdate,
        patient(r#"{"emergency_contact_phone":"1\t"}"#)
    ),
    check!(
        "patients_metadata_check",
        "metadata",
        "UPDATE patients SET metadata = '[]' WHERE id = 1",
        PatientsUpdate,
        patient(r#"{"metadata":{"a":"{8193}"}}"#)
    ),
    key!(
        "patients_created_by_fkey",
        "invalid_token",
        "INSERT INTO patients (created_by, name) VALUES (3, 'P')",
        PatientsCreate,
        by_a_user_who_is_gone(request("POST", "/api/patients", r#"{"name":"P"}"#))
    ),
    check!(
        "doctors_name_check",
        "name",
        "UPDATE doctors SET name = '' WHERE id = 1",
        DoctorsUpdate,
        doctor(r#"{"name":"{long}"}"#)
    ),
    check!(
        "doctors_specialization_check",
        "specialization",
        "UPDATE doctors SET specialization = repeat('x', 101) WHERE id = 1",
        DoctorsUpdate,
        doctor(r#"{"specialization":"{long}"}"#)
    ),
    check!(
        "doctors_email_check",
        "email",
        "UPDATE doctors SET email = 'a@' WHERE id = 1",
        DoctorsUpdate,
        doctor(r#"{"email":"a@"}"#)
    ),
    check!(
        "doctors_phone_check",
        "phone",
        "UPDATE doctors SET phone = repeat('1', 33) WHERE id = 1",
        DoctorsUpdate,
        doctor(r#"{"phone":"111111111111111111111111111111111"}"#)
    ),
    check!(
        "doctors_license_number_check",
        "license_number",
        "UPDATE doctors SET license_number = repeat('x', 65) WHERE id = 1",
        DoctorsUpdate,
        doctor(r#"{"license_number":"{long}"}"#)
    ),
    check!(
        "doctors_years_of_experience_check",
        "years_of_experience",
        "UPDATE doctors SET years_of_experience = 81 WHERE id = 1",
        DoctorsUpdate,
        doctor(r#"{"years_of_experience":81}"#)
    ),
    check!(
        "doctors_qualification_check",
        "qualification",
        "UPDATE doctors SET qualification = repeat('x', 201) WHERE id = 1",
        DoctorsUpdate,
        doctor(r#"{"qualification":"{long}"}"#)
    ),
    check!(
        "doctors_hospital_check",
        "hospital",
        "UPDATE doctors SET hospital = repeat('x', 201) WHERE id = 1",
        DoctorsUpdate,
        doctor(r#"{"hospital":"{long}"}"#)
    ),
    check!(
        "doctors_address_check",
        "address",
        "UPDATE doctors SET address = repeat('x', 501) WHERE id = 1",
        DoctorsUpdate,
        doctor(r#"{"address":"{long}"}"#)
    ),
    check!(
        "doctors_bio_check",
        "bio",
        "UPDATE doctors SET bio = repeat('x', 2001) WHERE id = 1",
        DoctorsUpdate,
        doctor(r#"{"bio":"{long}"}"#)
    ),
    check!(
        "doctors_metadata_check",
        "metadata",
        "UPDATE doctors SET metadata = json_build_object('a', repeat('x', 8192)) WHERE id = 1",
        DoctorsUpdate,
        doctor(r#"{"metadata":[]}"#)
    ),
    key!(
        "doctors_created_by_fkey",
        "invalid_token",
        "INSERT INTO doctors (created_by, name, specialization) VALUES (3, 'D', 'S')",
        DoctorsCreate,
        by_a_user_who_is_gone(request(
            "POST",
            "/api/doctors",
            r#"{"name":"D","specialization":"S"}"#
        ))
    ),
    check!(
        "mappings_notes_check",
        "notes",
        "UPDATE mappings SET notes = repeat('x', 2001) WHERE id = 1",
        MappingsCreate,
        mapping(r#"{"patient_id":{patient},"doctor_id":{doctor},"notes":"{long}"}"#)
    ),
    key!(
        "mappings_patient_id_doctor_id_key",
        "already_assigned",
        "INSERT INTO mappings (created_by, patient_id, doctor_id) VALUES (1, 1, 1)",
        MappingsCreate,
        mapping(r#"{"patient_id":{assigned_patient},"doctor_id":{assigned_doctor}}"#)
    ),
    // Another user's patient: the owner is part of the key.
    key!(
        "mappings_patient_id_fkey",
        "patient_not_found",
        "INSERT INTO mappings (created_by, patient_id, doctor_id) VALUES (2, 1, 1)",
        MappingsCreate,
        mapping(r#"{"patient_id":{others_patient},"doctor_id":{doctor}}"#)
    ),
    // One foreign key, two meanings.
    key!(
        "mappings_doctor_id_fkey",
        "doctor_not_found",
        "INSERT INTO mappings (created_by, patient_id, doctor_id) VALUES (1, 1, 2)",
        MappingsCreate,
        mapping(r#"{"patient_id":{patient},"doctor_id":9223372036854775807}"#)
    ),
    key!(
        "mappings_doctor_id_fkey",
        "doctor_assigned",
        "DELETE FROM doctors WHERE id = 1",
        DoctorsDelete,
        request("DELETE", "/api/doctors/{assigned_doctor}", "")
    ),
    // A user who is gone violates the key of what should be created first.
    no_request!(
        "idempotency_keys_created_by_fkey",
        "invalid_token",
        "INSERT INTO idempotency_keys (created_by, key, request_hash) VALUES (3, 'k', '')",
        PatientsUpdateOnce
    ),
    // Only if the first request with the key ends just after the second one has begun.
    no_request!(
        "idempotency_keys_pkey",
        "idempotency_in_progress",
        "INSERT INTO idempotency_keys (created_by, key, request_hash)
         VALUES (1, 'k', ''), (1, 'k', '')",
        PatientsUpdateOnce
    ),
];
