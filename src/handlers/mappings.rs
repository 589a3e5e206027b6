//! `/api/mappings`: the doctors assigned to a user's patients.

use hyper::StatusCode;

use super::list::{self, Filter, Framing, List};
use super::once;
use super::resource::insert;
use crate::auth::AuthUser;
use crate::db::connection::Parameter;
use crate::db::row::column;
use crate::db::{FromRow, Sql};
use crate::error::{Error, Result};
use crate::http::query::Query;
use crate::http::response::{empty, json_within};
use crate::http::{Request, Response, body, idempotency};
use crate::json::WriteJson;
use crate::models::input::read_new;
use crate::models::mapping::{
    AssignedDoctor, CreatedMapping, DOCTOR_ID, FIELDS, Mapping, PATIENT_ID,
};
use crate::worker::Worker;

const PATH: &str = "/api/mappings";

pub async fn create(worker: &Worker, user: AuthUser, request: Request) -> Result<Response> {
    let keyed = idempotency::read(&request)?;
    let (body, lease) = body::read(request, body::LIMIT, &worker.allowance(user), 0).await?;
    let values = read_new(&FIELDS, &body)?;
    if let Some(keyed) = keyed {
        let key = keyed.with_body(&body);
        let answer = once::insert(worker, Sql::MappingsCreateOnce, user, values, &key).await?;
        return once::resource(lease, StatusCode::CREATED, &answer);
    }
    let row = insert(worker, Sql::MappingsCreate, user, values).await?;
    CreatedMapping::from_row(&row, 0)?.check()?;
    Ok(json_within(lease, StatusCode::CREATED, &Mapping::from_row(&row)?))
}

pub async fn list(worker: &Worker, user: AuthUser, request: Request) -> Result<Response> {
    let mut query = Query::parse(request.uri().query());
    let page = query.page();
    let patient = query.id(&PATIENT_ID);
    let doctor = query.id(&DOCTOR_ID);
    query.finish()?;
    let list = List {
        first: Sql::MappingsFirst,
        sql: Sql::MappingsList,
        page: Sql::MappingsPage,
        keys: vec![user.id()],
        filters: vec![Filter::Id(PATIENT_ID.name, patient), Filter::Id(DOCTOR_ID.name, doctor)],
        write: |row, out| {
            let mapping = Mapping::from_row(row)?;
            mapping.write_json(out);
            Ok(Some(mapping.id))
        },
        framing: Framing::array(),
    };
    list::respond(worker, user, PATH, page, list, None).await
}

/// The doctors of one patient.
pub async fn doctors(
    worker: &Worker,
    user: AuthUser,
    patient_id: i64,
    request: Request,
) -> Result<Response> {
    let mut query = Query::parse(request.uri().query());
    let page = query.page();
    query.finish()?;
    let list = List {
        first: Sql::MappingsFirstDoctors,
        sql: Sql::MappingsDoctors,
        page: Sql::MappingsPageDoctors,
        keys: vec![user.id(), patient_id],
        filters: Vec::new(),
        write: |row, out| {
            if column::<Option<i64>>(row, 0)?.is_none() {
                return Ok(None);
            }
            let doctor = AssignedDoctor::from_row(row)?;
            doctor.write_json(out);
            Ok(Some(doctor.id))
        },
        framing: Framing::array(),
    };
    let path = format!("{PATH}/{patient_id}");
    list::respond(worker, user, &path, page, list, Some(Error::PatientNotFound)).await
}

pub async fn delete(
    worker: &Worker,
    user: AuthUser,
    id: i64,
    request: Request,
) -> Result<Response> {
    let keyed = idempotency::read(&request)?;
    body::ignore(&request, body::LIMIT)?;
    let (missing, parameters): (_, [Parameter<'_>; 2]) =
        (Error::MappingNotFound, [&user.id(), &id]);
    let writes = worker.writes.of(user.id()).on_row(Sql::MappingsDelete, id);
    if let Some(keyed) = keyed {
        let (sql, key) = (Sql::MappingsDeleteOnce, keyed.with_body(&[]));
        let answer = once::run(&writes, sql, &parameters, &key, missing).await?;
        return Ok(once::deleted(&answer));
    }
    let row = writes.query_opt(Sql::MappingsDelete, &parameters).await?;
    row.ok_or(missing)?;
    Ok(empty(StatusCode::NO_CONTENT))
}
