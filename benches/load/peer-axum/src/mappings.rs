//! The doctors of a patient.

use axum::Json;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::FromRow;

use crate::auth::User;
use crate::{App, Failure};

const DOCTORS: &str = "
SELECT
    m.id AS mapping_id, m.patient_id, m.doctor_id, m.notes, m.created_at AS assigned_at,
    d.id, d.name, d.specialization, d.email, d.phone, d.license_number, d.years_of_experience,
    d.qualification, d.hospital, d.address, d.bio, d.metadata, d.created_by, d.version,
    d.created_at, d.updated_at
FROM mappings AS m
JOIN doctors AS d ON d.id = m.doctor_id
WHERE m.created_by = $1 AND m.patient_id = $2
ORDER BY m.id";

/// Only queried if no doctor is assigned.
const PATIENT: &str = "SELECT id FROM patients WHERE created_by = $1 AND id = $2";

#[derive(FromRow, Serialize)]
pub struct AssignedDoctor {
    #[sqlx(rename = "mapping_id")]
    id: i64,
    patient_id: i64,
    doctor_id: i64,
    notes: Option<String>,
    #[sqlx(rename = "assigned_at")]
    created_at: DateTime<Utc>,
    #[sqlx(flatten)]
    doctor: Doctor,
}

#[derive(FromRow, Serialize)]
struct Doctor {
    id: i64,
    name: String,
    specialization: String,
    email: Option<String>,
    phone: Option<String>,
    license_number: Option<String>,
    years_of_experience: Option<i32>,
    qualification: Option<String>,
    hospital: Option<String>,
    address: Option<String>,
    bio: Option<String>,
    metadata: sqlx::types::Json<Box<RawValue>>,
    created_by: i64,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

pub async fn doctors(
    State(app): State<App>,
    user: User,
    Path(patient_id): Path<i64>,
) -> Result<Json<Vec<AssignedDoctor>>, Failure> {
    let doctors: Vec<AssignedDoctor> =
        sqlx::query_as(DOCTORS).bind(user.id).bind(patient_id).fetch_all(&app.pool).await?;
    if doctors.is_empty() {
        let patient: Option<(i64,)> = sqlx::query_as(PATIENT)
            .bind(user.id)
            .bind(patient_id)
            .fetch_optional(&app.pool)
            .await?;
        patient.ok_or(Failure::NotFound)?;
    }
    Ok(Json(doctors))
}
