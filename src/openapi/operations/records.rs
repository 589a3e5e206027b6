//! Patients, doctors and mappings.

use hyper::Method;

use super::{Answer, Content, NO_CONTENT, Operation};
use crate::error::{Error, Result};
use crate::models::input::{read_new, read_patch};
use crate::models::{doctor, mapping, patient};

const PATIENT: Answer = Answer::new(200, "The patient.", Content::One("Patient")).with(&["etag"]);
const DOCTOR: Answer = Answer::new(200, "The doctor.", Content::One("Doctor")).with(&["etag"]);
const NOT_MODIFIED: Answer =
    Answer::new(304, "The version that you have.", Content::None).with(&["etag"]);

const BY_PUT: &str = "The same as `PATCH`: changes the fields that are sent.";
const CHANGE: &str = "Changes the fields that are sent and leaves the others; `null` clears one. \
                      The answer is the whole resource.";

pub fn patients(method: &Method) -> Operation {
    const CREATED: &[Answer] = &[Answer::new(201, "The patient.", Content::One("Patient"))
        .with(&["etag", "location"])
        .links(&[("getPatient", "$response.body#/id"), ("deletePatient", "$response.body#/id")])];
    const LIST: &[Answer] =
        &[Answer::new(200, "Your patients.", Content::List("Patient")).with(&["link"])];
    match *method {
        Method::POST => {
            Operation::new("createPatient", "Create a patient", CREATED).body("NewPatient", || {
                let body = br#"{"name":"Alan","age":200,"alergies":"nuts"}"#;
                read_new(&patient::FIELDS, body).map(drop)
            })
        }
        _ => Operation::new("listPatients", "List your patients", LIST),
    }
}

pub fn patient(method: &Method) -> Operation {
    let operation = match *method {
        Method::PUT => Operation::new("putPatient", "Change a patient (PUT)", &[PATIENT])
            .about(BY_PUT)
            .body("PatientChange", wrong_patient),
        Method::PATCH => Operation::new("changePatient", "Change a patient", &[PATIENT])
            .about(CHANGE)
            .body("PatientChange", wrong_patient),
        Method::DELETE => Operation::new("deletePatient", "Delete a patient", &[NO_CONTENT])
            .about("Its mappings go with it."),
        _ => Operation::new("getPatient", "One of your patients", &[PATIENT, NOT_MODIFIED]),
    };
    if method.is_safe() {
        operation.headers(&["IfNoneMatch"]).errors([Error::PatientNotFound])
    } else {
        operation.headers(&["IfMatch"]).errors([Error::PatientNotFound, Error::PreconditionFailed])
    }
}

fn wrong_patient() -> Result<()> {
    read_patch(&patient::FIELDS, br#"{"name":null,"date_of_birth":"31.12.1980"}"#).map(drop)
}

pub fn doctors(method: &Method) -> Operation {
    const CREATED: &[Answer] = &[Answer::new(201, "The doctor.", Content::One("Doctor"))
        .with(&["etag", "location"])
        .links(&[("getDoctor", "$response.body#/id"), ("deleteDoctor", "$response.body#/id")])];
    const LIST: &[Answer] =
        &[Answer::new(200, "The doctors.", Content::List("Doctor")).with(&["link"])];
    match *method {
        Method::POST => Operation::new("createDoctor", "Create a doctor", CREATED)
            .body("NewDoctor", || {
                read_new(&doctor::FIELDS, br#"{"name":"Dr. House","phone":"call me"}"#).map(drop)
            }),
        _ => Operation::new("listDoctors", "List the doctors", LIST),
    }
}

pub fn doctor(method: &Method) -> Operation {
    let operation = match *method {
        Method::PUT => Operation::new("putDoctor", "Change a doctor (PUT)", &[DOCTOR])
            .about(BY_PUT)
            .body("DoctorChange", wrong_doctor),
        Method::PATCH => Operation::new("changeDoctor", "Change a doctor", &[DOCTOR])
            .about(CHANGE)
            .body("DoctorChange", wrong_doctor),
        Method::DELETE => Operation::new("deleteDoctor", "Delete a doctor", &[NO_CONTENT])
            .about("Only if the doctor is assigned to nobody's patient."),
        _ => Operation::new("getDoctor", "One of the doctors", &[DOCTOR, NOT_MODIFIED]),
    };
    if method.is_safe() {
        return operation.headers(&["IfNoneMatch"]).errors([Error::DoctorNotFound]);
    }
    let operation = operation.headers(&["IfMatch"]);
    let errors = [Error::DoctorNotFound, Error::Forbidden, Error::PreconditionFailed];
    if *method == Method::DELETE {
        let [missing, forbidden, failed] = errors;
        return operation.errors([missing, forbidden, failed, Error::DoctorAssigned]);
    }
    operation.errors(errors)
}

fn wrong_doctor() -> Result<()> {
    read_patch(&doctor::FIELDS, br#"{"years_of_experience":"ten"}"#).map(drop)
}

pub fn mappings(method: &Method) -> Operation {
    const CREATED: &[Answer] =
        &[Answer::new(201, "The mapping.", Content::One("Mapping")).links(&[
            ("listPatientsDoctors", "$response.body#/patient_id"),
            ("deleteMapping", "$response.body#/id"),
        ])];
    const LIST: &[Answer] =
        &[Answer::new(200, "The mappings of your patients.", Content::List("Mapping"))
            .with(&["link"])];
    match *method {
        Method::POST => Operation::new("createMapping", "Assign a doctor to a patient", CREATED)
            .about("The patient must be yours, which is looked at first.")
            .body("NewMapping", || read_new(&mapping::FIELDS, br#"{"patient_id":0}"#).map(drop))
            .errors([Error::PatientNotFound, Error::DoctorNotFound, Error::AlreadyAssigned]),
        _ => Operation::new("listMappings", "List the mappings of your patients", LIST),
    }
}

pub fn mapping(method: &Method) -> Operation {
    match *method {
        Method::DELETE => Operation::new("deleteMapping", "End an assignment", &[NO_CONTENT])
            .about("The id is the mapping's.")
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
