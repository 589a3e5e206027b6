//! A mapping: a doctor assigned to a patient.

use tokio_postgres::Row;

use super::doctor::Doctor;
use super::input::{Field, optional, required};
use super::rules::Rule;
use crate::db::Timestamp;
use crate::db::row::{FromRow, row};
use crate::error::{Error, Result};
use crate::http::query::{Accepts, Parameter};
use crate::json::object;

row! {
    /// A mapping as statements return it, with the names of both sides.
    pub struct MappingRow<'r> {
        id: i64,
        patient_id: i64,
        doctor_id: i64,
        notes: Option<&'r str>,
        created_at: Timestamp,
        patient_name: &'r str,
        doctor_name: &'r str,
        doctor_specialization: &'r str,
    }
}

row! {
    /// The first columns of an assigned doctor; the doctor's follow.
    pub struct AssignmentRow<'r> {
        id: i64,
        patient_id: i64,
        doctor_id: i64,
        notes: Option<&'r str>,
        created_at: Timestamp,
    }
}

row! {
    /// The result of creating a mapping, in which each part may be missing.
    pub struct CreatedMapping<'r> {
        id: Option<i64>,
        patient_id: Option<i64>,
        doctor_id: Option<i64>,
        notes: Option<&'r str>,
        created_at: Option<Timestamp>,
        patient_name: Option<&'r str>,
        doctor_name: Option<&'r str>,
        doctor_specialization: Option<&'r str>,
    }
}

impl CreatedMapping<'_> {
    /// The missing part tells why nothing was created.
    pub fn check(&self) -> Result<()> {
        match self {
            Self { patient_name: None, .. } => Err(Error::PatientNotFound),
            Self { doctor_name: None, .. } => Err(Error::DoctorNotFound),
            Self { id: None, .. } => Err(Error::AlreadyAssigned),
            _ => Ok(()),
        }
    }
}

object! {
    /// A mapping with the names of both sides.
    pub struct Mapping<'r> {
        pub id: i64,
        patient_id: i64,
        doctor_id: i64,
        notes: Option<&'r str>,
        created_at: Timestamp,
        patient: PatientName<'r>,
        doctor: DoctorName<'r>,
    }
}

object! {
    struct PatientName<'r> {
        id: i64,
        name: &'r str,
    }
}

object! {
    struct DoctorName<'r> {
        id: i64,
        name: &'r str,
        specialization: &'r str,
    }
}

impl<'r> Mapping<'r> {
    pub fn from_row(row: &'r Row) -> Result<Self> {
        let row = MappingRow::from_row(row, 0)?;
        Ok(Self {
            id: row.id,
            patient_id: row.patient_id,
            doctor_id: row.doctor_id,
            notes: row.notes,
            created_at: row.created_at,
            patient: PatientName { id: row.patient_id, name: row.patient_name },
            doctor: DoctorName {
                id: row.doctor_id,
                name: row.doctor_name,
                specialization: row.doctor_specialization,
            },
        })
    }
}

object! {
    /// A mapping in the list of a patient's doctors, with the whole doctor.
    pub struct AssignedDoctor<'r> {
        pub id: i64,
        patient_id: i64,
        doctor_id: i64,
        notes: Option<&'r str>,
        created_at: Timestamp,
        doctor: Doctor<'r>,
    }
}

impl<'r> AssignedDoctor<'r> {
    pub fn from_row(row: &'r Row) -> Result<Self> {
        let assignment = AssignmentRow::from_row(row, 0)?;
        Ok(Self {
            id: assignment.id,
            patient_id: assignment.patient_id,
            doctor_id: assignment.doctor_id,
            notes: assignment.notes,
            created_at: assignment.created_at,
            doctor: Doctor::from_row(row, AssignmentRow::COLUMNS.len())?,
        })
    }
}

/// What a client may send, in the order of the parameters of `sql/mappings/create.sql`.
pub const FIELDS: [Field; 3] = [
    required("patient_id", Rule::Id).or(&["patient", "patientId"]),
    required("doctor_id", Rule::Id).or(&["doctor", "doctorId"]),
    optional("notes", Rule::Text { max: 2000 }),
];

/// A filter of the list.
pub const PATIENT_ID: Parameter = Parameter::new("patient_id", Accepts::Id);
/// A filter of the list.
pub const DOCTOR_ID: Parameter = Parameter::new("doctor_id", Accepts::Id);
