//! `/api/patients`: the owner is part of each statement, so another user's patient is not found.

use hyper::StatusCode;

use super::list::{self, Filter, Framing, List};
use super::once;
use super::resource::{
    Changed, Write, change, created, found, insert, remove, resource, whole, with_owner,
};
use crate::auth::AuthUser;
use crate::db::connection::Parameter;
use crate::db::insert::NewRow;
use crate::db::{FromRow, Inserted, Sql};
use crate::error::{Error, Result};
use crate::http::budget::SMALL;
use crate::http::query::Query;
use crate::http::{Request, Response, body, idempotency};
use crate::json::WriteJson;
use crate::models::input::read_new;
use crate::models::patient::{FIELDS, GENDER, Patient, SEARCH};
use crate::models::rules::Value;
use crate::worker::Worker;

const PATH: &str = "/api/patients";
const UPDATE: Write = Write { plain: Sql::PatientsUpdate, once: Sql::PatientsUpdateOnce };
const DELETE: Write = Write { plain: Sql::PatientsDelete, once: Sql::PatientsDeleteOnce };

pub async fn create(worker: &Worker, user: AuthUser, request: Request) -> Result<Response> {
    let keyed = idempotency::read(&request)?;
    let (body, lease) = body::read(request, body::LIMIT, &worker.allowance(user), 0).await?;
    let values = read_new(&FIELDS, &body)?;
    // Only small rows are batched, because a batch is held in memory.
    let large = body.len() > SMALL;
    let inserted = if large && keyed.is_none() {
        Inserted::Row(Box::pin(insert(worker, Sql::PatientsCreate, user, values)).await?)
    } else {
        let values = with_owner(user, values.map(Value::into_owned));
        let key = keyed.map(|keyed| keyed.with_body(&body));
        let row = NewRow { user: user.id(), values, key };
        let inserts = &worker.patient_inserts;
        if large {
            Box::pin(inserts.insert_alone(&row)).await?
        } else {
            inserts.insert(row).await?
        }
    };
    match inserted {
        Inserted::Row(row) => {
            let patient = Patient::from_row(&row, 0)?;
            Ok(created(lease, PATH, patient.id, &patient, patient.version))
        }
        Inserted::Answer(answer) => once::created(lease, PATH, &answer),
    }
}

pub async fn list(worker: &Worker, user: AuthUser, request: Request) -> Result<Response> {
    let mut query = Query::parse(request.uri().query());
    let page = query.page();
    let search = query.text(&SEARCH);
    let gender = query.text(&GENDER);
    query.finish()?;
    let list = List {
        first: Sql::PatientsFirst,
        sql: Sql::PatientsList,
        page: Sql::PatientsPage,
        keys: vec![user.id()],
        filters: vec![Filter::Text(SEARCH.name, search), Filter::Text(GENDER.name, gender)],
        write: |row, out| {
            let patient = Patient::from_row(row, 0)?;
            patient.write_json(out);
            Ok(Some(patient.id))
        },
        framing: Framing::array(),
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
    let missing = Error::PatientNotFound;
    match change(worker, user, id, request, UPDATE, &FIELDS, missing).await? {
        Changed::Row(row, lease) => {
            let patient = Patient::from_row(&row, 1)?;
            Ok(resource(lease, StatusCode::OK, &patient, patient.version))
        }
        Changed::Once(response) => Ok(response),
    }
}

pub async fn delete(
    worker: &Worker,
    user: AuthUser,
    id: i64,
    request: Request,
) -> Result<Response> {
    remove(worker, user, id, request, DELETE, Error::PatientNotFound).await
}
