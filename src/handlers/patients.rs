//! `/api/patients`: the owner is part of each statement, so another user's patient is not found.

use hyper::StatusCode;
use tokio_postgres::types::Json;

use super::list::{self, Filter, List};
use super::resource::{
    LARGEST, check_deleted, check_updated, created, found, insert, resource, whole, with_owner,
};
use crate::auth::AuthUser;
use crate::db::connection::Parameter;
use crate::db::{FromRow, Sql};
use crate::error::{Error, Result};
use crate::http::budget::SMALL;
use crate::http::query::Query;
use crate::http::response::empty;
use crate::http::{Request, Response, body, etag};
use crate::json::WriteJson;
use crate::models::input::{read_new, read_patch};
use crate::models::patient::{FIELDS, Patient};
use crate::models::rules::{GENDERS, Value};
use crate::worker::Worker;

const PATH: &str = "/api/patients";

pub async fn create(worker: &Worker, user: AuthUser, request: Request) -> Result<Response> {
    let (body, lease) = body::read(request, body::LIMIT, &worker.allowance(user), 0).await?;
    let values = read_new(&FIELDS, &body)?;
    // Only small rows are batched, because a batch is held in memory.
    let row = if body.len() > SMALL {
        insert(worker, Sql::PatientsCreate, user, values).await?
    } else {
        let row = with_owner(user, values.map(Value::into_owned));
        worker.patient_inserts.insert(user.id(), row).await?
    };
    let patient = Patient::from_row(&row, 0)?;
    Ok(created(lease, PATH, patient.id, &patient, patient.version))
}

pub async fn list(worker: &Worker, user: AuthUser, request: Request) -> Result<Response> {
    let mut query = Query::parse(request.uri().query());
    let page = query.page();
    let search = query.text("search", 0, list::MAX_SEARCH);
    let gender = query.choice("gender", GENDERS);
    query.finish()?;
    let list = List {
        first: Sql::PatientsFirst,
        sql: Sql::PatientsList,
        seek: Sql::PatientsSeek,
        keys: vec![user.id()],
        filters: vec![Filter::Text("search", search), Filter::Text("gender", gender)],
        write: |row, out| {
            let patient = Patient::from_row(row, 0)?;
            patient.write_json(out);
            Ok(Some(patient.id))
        },
    };
    list::respond(worker, user, PATH, page, list, None).await
}

pub async fn get(worker: &Worker, user: AuthUser, id: i64, request: Request) -> Result<Response> {
    let row = worker.patient_lookups.get(user.id(), id).await?;
    let row = row.ok_or(Error::PatientNotFound)?;
    let (large, key): (_, [Parameter<'_>; 2]) = (Patient::COLUMNS.len(), [&user.id(), &id]);
    let row = whole(worker, user, row, large, Sql::PatientsGetWhole, &key).await?;
    let (row, lease) = row.ok_or(Error::PatientNotFound)?;
    let patient = Patient::from_row(&row, 0)?;
    Ok(found(lease, &request, &patient, patient.version))
}

pub async fn update(
    worker: &Worker,
    user: AuthUser,
    id: i64,
    request: Request,
) -> Result<Response> {
    let versions = etag::accepted_versions(request.headers());
    let (body, lease) = body::read(request, body::LIMIT, &worker.allowance(user), LARGEST).await?;
    let patch = Json(read_patch(&FIELDS, &body)?);
    let row = worker
        .writes
        .of(user.id())
        .query_opt(Sql::PatientsUpdate, &[&user.id(), &id, &patch, &versions])
        .await?;
    let row = row.ok_or(Error::PatientNotFound)?;
    check_updated(&row)?;
    let patient = Patient::from_row(&row, 1)?;
    Ok(resource(lease, StatusCode::OK, &patient, patient.version))
}

pub async fn delete(
    worker: &Worker,
    user: AuthUser,
    id: i64,
    request: Request,
) -> Result<Response> {
    body::ignore(&request, body::LIMIT)?;
    let versions = etag::accepted_versions(request.headers());
    let row = worker
        .writes
        .of(user.id())
        .query_opt(Sql::PatientsDelete, &[&user.id(), &id, &versions])
        .await?;
    check_deleted(&row.ok_or(Error::PatientNotFound)?)?;
    Ok(empty(StatusCode::NO_CONTENT))
}
