//! `/api/doctors`: visible to all users; the statements that change one check who may.

use hyper::StatusCode;

use super::list::{self, Filter, Framing, List};
use super::once;
use super::resource::{Changed, Write, change, created, found, insert, remove, resource, whole};
use crate::auth::AuthUser;
use crate::db::{FromRow, Sql};
use crate::error::{Error, Result};
use crate::http::query::Query;
use crate::http::{Request, Response, body, idempotency};
use crate::json::WriteJson;
use crate::models::doctor::{Doctor, FIELDS, SEARCH, SPECIALIZATION};
use crate::models::input::read_new;
use crate::worker::Worker;

const PATH: &str = "/api/doctors";
const UPDATE: Write = Write { plain: Sql::DoctorsUpdate, once: Sql::DoctorsUpdateOnce };
const DELETE: Write = Write { plain: Sql::DoctorsDelete, once: Sql::DoctorsDeleteOnce };

pub async fn create(worker: &Worker, user: AuthUser, request: Request) -> Result<Response> {
    let keyed = idempotency::read(&request)?;
    let (body, lease) = body::read(request, body::LIMIT, &worker.allowance(user), 0).await?;
    let values = read_new(&FIELDS, &body)?;
    if let Some(keyed) = keyed {
        let key = keyed.with_body(&body);
        let answer = once::insert(worker, Sql::DoctorsCreateOnce, user, values, &key).await?;
        return once::created(lease, PATH, &answer);
    }
    let row = insert(worker, Sql::DoctorsCreate, user, values).await?;
    let doctor = Doctor::from_row(&row, 0)?;
    Ok(created(lease, PATH, doctor.id, &doctor, doctor.version))
}

pub async fn list(worker: &Worker, user: AuthUser, request: Request) -> Result<Response> {
    let mut query = Query::parse(request.uri().query());
    let page = query.page();
    let search = query.text(&SEARCH);
    let specialization = query.text(&SPECIALIZATION);
    query.finish()?;
    let list = List {
        first: Sql::DoctorsFirst,
        sql: Sql::DoctorsList,
        page: Sql::DoctorsPage,
        keys: Vec::new(),
        filters: vec![
            Filter::Text(SEARCH.name, search),
            Filter::Text(SPECIALIZATION.name, specialization),
        ],
        write: |row, out| {
            let doctor = Doctor::from_row(row, 0)?;
            doctor.write_json(out);
            Ok(Some(doctor.id))
        },
        framing: Framing::array(),
    };
    list::respond(worker, user, PATH, page, list, None).await
}

pub async fn get(worker: &Worker, user: AuthUser, id: i64, request: Request) -> Result<Response> {
    let row = worker.shared.doctors.query_opt(Sql::DoctorsGet, &[&id]).await?;
    let row = row.ok_or(Error::DoctorNotFound)?;
    let large = Doctor::COLUMNS.len();
    let row = whole(worker, user, row, large, Sql::DoctorsGetWhole, &[&id]).await?;
    let (row, lease) = row.ok_or(Error::DoctorNotFound)?;
    let doctor = Doctor::from_row(&row, 0)?;
    Ok(found(lease, &request, &doctor, doctor.version))
}

pub async fn update(
    worker: &Worker,
    user: AuthUser,
    id: i64,
    request: Request,
) -> Result<Response> {
    let missing = Error::DoctorNotFound;
    match change(worker, user, id, request, UPDATE, &FIELDS, missing).await? {
        Changed::Row(row, lease) => {
            let doctor = Doctor::from_row(&row, 1)?;
            Ok(resource(lease, StatusCode::OK, &doctor, doctor.version))
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
    remove(worker, user, id, request, DELETE, Error::DoctorNotFound).await
}
