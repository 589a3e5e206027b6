//! Patients: get one, a page of them, create, update.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{ETAG, LINK, LOCATION};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::FromRow;

use crate::auth::User;
use crate::{App, Failure, json};

const GET: &str = include_str!("../../../../sql/patients/get.sql");
const CREATE: &str = include_str!("../../../../sql/patients/create.sql");
const UPDATE: &str = include_str!("../../../../sql/patients/update.sql");
const LIST: &str = "
SELECT
    id, name, age, gender, date_of_birth, phone, email, address, blood_group, allergies,
    medical_history, notes, emergency_contact_name, emergency_contact_phone, metadata,
    created_by, version, created_at, updated_at
FROM patients
WHERE created_by = $1 AND id > $2
ORDER BY id
LIMIT $3";

#[derive(FromRow, Serialize)]
pub struct Patient {
    id: i64,
    name: String,
    age: Option<i32>,
    gender: Option<String>,
    date_of_birth: Option<NaiveDate>,
    phone: Option<String>,
    email: Option<String>,
    address: Option<String>,
    blood_group: Option<String>,
    allergies: Option<String>,
    medical_history: Option<String>,
    notes: Option<String>,
    emergency_contact_name: Option<String>,
    emergency_contact_phone: Option<String>,
    metadata: sqlx::types::Json<Box<RawValue>>,
    created_by: i64,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Patient {
    fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPatient {
    name: String,
    age: Option<i32>,
    gender: Option<String>,
    date_of_birth: Option<NaiveDate>,
    phone: Option<String>,
    email: Option<String>,
    address: Option<String>,
    blood_group: Option<String>,
    allergies: Option<String>,
    medical_history: Option<String>,
    notes: Option<String>,
    emergency_contact_name: Option<String>,
    emergency_contact_phone: Option<String>,
    metadata: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
pub struct Page {
    limit: i64,
    #[serde(default)]
    after: i64,
}

pub async fn get(
    State(app): State<App>,
    user: User,
    Path(id): Path<i64>,
) -> Result<Response, Failure> {
    let patient: Option<Patient> =
        sqlx::query_as(GET).bind(user.id).bind(id).fetch_optional(&app.pool).await?;
    let patient = patient.ok_or(Failure::NotFound)?;
    Ok(([(ETAG, patient.etag())], Json(patient)).into_response())
}

pub async fn list(
    State(app): State<App>,
    user: User,
    Query(page): Query<Page>,
) -> Result<Response, Failure> {
    // One more row than requested shows whether there is a next page.
    let mut patients: Vec<Patient> = sqlx::query_as(LIST)
        .bind(user.id)
        .bind(page.after)
        .bind(page.limit + 1)
        .fetch_all(&app.pool)
        .await?;
    let limit = usize::try_from(page.limit).map_err(|_| Failure::NotFound)?;
    let more = patients.len() > limit;
    patients.truncate(limit);
    match patients.last() {
        Some(last) if more => {
            let (limit, after) = (page.limit, last.id);
            let link = format!("</api/patients?limit={limit}&after={after}>; rel=\"next\"");
            Ok(([(LINK, link)], Json(patients)).into_response())
        }
        _ => Ok(Json(patients).into_response()),
    }
}

pub async fn create(
    State(app): State<App>,
    user: User,
    Json(new): Json<NewPatient>,
) -> Result<Response, Failure> {
    let patient: Patient = sqlx::query_as(CREATE)
        .bind(user.id)
        .bind(new.name)
        .bind(new.age)
        .bind(new.gender)
        .bind(new.date_of_birth)
        .bind(new.phone)
        .bind(new.email)
        .bind(new.address)
        .bind(new.blood_group)
        .bind(new.allergies)
        .bind(new.medical_history)
        .bind(new.notes)
        .bind(new.emergency_contact_name)
        .bind(new.emergency_contact_phone)
        .bind(new.metadata.map(json::Text))
        .fetch_one(&app.pool)
        .await?;
    let headers = [(LOCATION, format!("/api/patients/{}", patient.id)), (ETAG, patient.etag())];
    Ok((StatusCode::CREATED, headers, Json(patient)).into_response())
}

pub async fn update(
    State(app): State<App>,
    user: User,
    Path(id): Path<i64>,
    Json(patch): Json<Box<RawValue>>,
) -> Result<Response, Failure> {
    let patient: Option<Patient> = sqlx::query_as(UPDATE)
        .bind(user.id)
        .bind(id)
        .bind(json::Text(patch))
        .bind(None::<Vec<i64>>)
        .fetch_optional(&app.pool)
        .await?;
    let patient = patient.ok_or(Failure::NotFound)?;
    Ok(([(ETAG, patient.etag())], Json(patient)).into_response())
}
