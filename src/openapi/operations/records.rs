//! Patients, doctors and mappings.

use hyper::Method;

use super::{Answer, Body, Content, IDEMPOTENCY_KEY, Operation, refused};
use crate::bulk::import::{errors_of, wrong_lines};
use crate::error::Error;
use crate::http::upload;
use crate::models::input::{read_new, read_patch};
use crate::models::{doctor, mapping, patient};

/// The header of an answer that was given before.
const REPLAYED: &str = "idempotency-replayed";

const PATIENT: Answer = Answer::new(200, "The patient.", Content::One("Patient")).with(&["etag"]);
const DOCTOR: Answer = Answer::new(200, "The doctor.", Content::One("Doctor")).with(&["etag"]);
const CHANGED_PATIENT: Answer = PATIENT.with(&["etag", REPLAYED]);
const CHANGED_DOCTOR: Answer = DOCTOR.with(&["etag", REPLAYED]);
const DELETED: Answer = Answer::new(204, "Done.", Content::None).with(&[REPLAYED]);
const NOT_MODIFIED: Answer =
    Answer::new(304, "The version that you have.", Content::None).with(&["etag"]);

const BY_PUT: &str = "The same as `PATCH`: changes the fields that are sent.";
const CHANGE: &str = "Changes the fields that are sent and leaves the others; `null` clears one. \
                      The answer is the whole resource.";

pub fn patients(method: &Method) -> Operation {
    const CREATED: &[Answer] = &[Answer::new(201, "The patient.", Content::One("Patient"))
        .with(&["etag", "location", REPLAYED])
        .links(&[("getPatient", "$response.body#/id"), ("deletePatient", "$response.body#/id")])];
    const LIST: &[Answer] =
        &[Answer::new(200, "Your patients.", Content::List("Patient")).with(&["link"])];
    match *method {
        Method::POST => Operation::new("createPatient", "Create a patient", CREATED)
            .headers(&[IDEMPOTENCY_KEY])
            .body("NewPatient", || {
                let body = br#"{"name":"Alan","age":200,"alergies":"nuts"}"#;
                refused(read_new(&patient::FIELDS, body))
            }),
        _ => Operation::new("listPatients", "List your patients", LIST),
    }
}

pub fn export() -> Operation {
    const LINES: &[Answer] =
        &[Answer::new(200, "Your patients, by id.", Content::Export).with(&["vary"])];
    Operation::new("exportPatients", "Export all of your patients", LINES)
        .about("As JSON or CSV, as `Accept` says. What is exported can be imported.")
}

pub fn import() -> Operation {
    const IMPORTED: &[Answer] =
        &[Answer::new(200, "The number of new patients.", Content::One("Imported"))];
    let body = Body { content: Content::Lines, name: "Import", wrong: wrong_import };
    let operation = Operation::new("importPatients", "Import patients, all or none", IMPORTED)
        .about(
            "The rules for each line are those of a single patient. The body may have 256 MiB \
             unless `IMPORT_MAX_BYTES` is set, and a line 256 KiB. `errors` names the line before \
             the field: `line 17: age`.",
        );
    Operation { body: Some(body), body_limit: upload::DEFAULT_LIMIT, ..operation }
}

fn wrong_import() -> Error {
    let line = br#"{"name":"Alan","age":200}"#;
    wrong_lines(errors_of(17, refused(read_new(&patient::FIELDS, line))))
}

pub fn patient(method: &Method) -> Operation {
    let operation = match *method {
        Method::PUT => Operation::new("putPatient", "Change a patient (PUT)", &[CHANGED_PATIENT])
            .about(BY_PUT)
            .body("PatientChange", wrong_patient),
        Method::PATCH => Operation::new("changePatient", "Change a patient", &[CHANGED_PATIENT])
            .about(CHANGE)
            .body("PatientChange", wrong_patient),
        Method::DELETE => Operation::new("deletePatient", "Delete a patient", &[DELETED])
            .about("Its mappings go with it."),
        _ => Operation::new("getPatient", "One of your patients", &[PATIENT, NOT_MODIFIED]),
    };
    if method.is_safe() {
        operation.headers(&["IfNoneMatch"]).errors([Error::PatientNotFound])
    } else {
        operation
            .headers(&["IfMatch", IDEMPOTENCY_KEY])
            .errors([Error::PatientNotFound, Error::PreconditionFailed])
    }
}

fn wrong_patient() -> Error {
    refused(read_patch(&patient::FIELDS, br#"{"name":null,"date_of_birth":"31.12.1980"}"#))
}

pub fn doctors(method: &Method) -> Operation {
    const CREATED: &[Answer] = &[Answer::new(201, "The doctor.", Content::One("Doctor"))
        .with(&["etag", "location", REPLAYED])
        .links(&[("getDoctor", "$response.body#/id"), ("deleteDoctor", "$response.body#/id")])];
    const LIST: &[Answer] =
        &[Answer::new(200, "The doctors.", Content::List("Doctor")).with(&["link"])];
    match *method {
        Method::POST => Operation::new("createDoctor", "Create a doctor", CREATED)
            .headers(&[IDEMPOTENCY_KEY])
            .body("NewDoctor", || {
                refused(read_new(&doctor::FIELDS, br#"{"name":"Dr. House","phone":"call me"}"#))
            }),
        _ => Operation::new("listDoctors", "List the doctors", LIST),
    }
}

pub fn doctor(method: &Method) -> Operation {
    let operation = match *method {
        Method::PUT => Operation::new("putDoctor", "Change a doctor (PUT)", &[CHANGED_DOCTOR])
            .about(BY_PUT)
            .body("DoctorChange", wrong_doctor),
        Method::PATCH => Operation::new("changeDoctor", "Change a doctor", &[CHANGED_DOCTOR])
            .about(CHANGE)
            .body("DoctorChange", wrong_doctor),
        Method::DELETE => Operation::new("deleteDoctor", "Delete a doctor", &[DELETED])
            .about("Only if the doctor is assigned to nobody's patient."),
        _ => Operation::new("getDoctor", "One of the doctors", &[DOCTOR, NOT_MODIFIED]),
    };
    if method.is_safe() {
        return operation.headers(&["IfNoneMatch"]).errors([Error::DoctorNotFound]);
    }
    let operation = operation.headers(&["IfMatch", IDEMPOTENCY_KEY]);
    let errors = [Error::DoctorNotFound, Error::Forbidden, Error::PreconditionFailed];
    if *method == Method::DELETE {
        let [missing, forbidden, failed] = errors;
        return operation.errors([missing, forbidden, failed, Error::DoctorAssigned]);
    }
    operation.errors(errors)
}

fn wrong_doctor() -> Error {
    refused(read_patch(&doctor::FIELDS, br#"{"years_of_experience":"ten"}"#))
}

pub fn mappings(method: &Method) -> Operation {
    const CREATED: &[Answer] =
        &[Answer::new(201, "The mapping.", Content::One("Mapping")).with(&[REPLAYED]).links(&[
            ("listPatientsDoctors", "$response.body#/patient_id"),
            ("deleteMapping", "$response.body#/id"),
        ])];
    const LIST: &[Answer] =
        &[Answer::new(200, "The mappings of your patients.", Content::List("Mapping"))
            .with(&["link"])];
    match *method {
        Method::POST => Operation::new("createMapping", "Assign a doctor to a patient", CREATED)
            .about("The patient must be yours, which is looked at first.")
            .headers(&[IDEMPOTENCY_KEY])
            .body("NewMapping", || refused(read_new(&mapping::FIELDS, br#"{"patient_id":0}"#)))
            .errors([Error::PatientNotFound, Error::DoctorNotFound, Error::AlreadyAssigned]),
        _ => Operation::new("listMappings", "List the mappings of your patients", LIST),
    }
}

pub fn mapping(method: &Method) -> Operation {
    match *method {
        Method::DELETE => Operation::new("deleteMapping", "End an assignment", &[DELETED])
            .about("The id is the mapping's.")
            .headers(&[IDEMPOTENCY_KEY])
            .errors([Error::MappingNotFound]),
        _ => patients_doctors("listPatientsDoctors"),
    }
}

/// The doctors of a patient, under either of two paths.
pub fn patients_doctors(id: &'static str) -> Operation {
    const LIST: &[Answer] =
        &[Answer::new(200, "The patient's doctors.", Content::List("AssignedDoctor"))
            .with(&["link"])];
    Operation::new(id, "List the doctors of a patient", LIST)
        .about("The id is the patient's.")
        .errors([Error::PatientNotFound])
}
