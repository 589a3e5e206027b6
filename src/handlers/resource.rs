//! Single patients and doctors: versioned responses and conditional changes.

use hyper::StatusCode;
use hyper::header::{ETAG, HeaderValue, LOCATION};
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::once;
use crate::auth::AuthUser;
use crate::db::connection::Parameter;
use crate::db::row::{column, is_large};
use crate::db::{self, Sql};
use crate::error::{Error, Result};
use crate::http::budget::Lease;
use crate::http::response::{empty, json_within};
use crate::http::{Request, Response, body, etag, idempotency};
use crate::json::WriteJson;
use crate::models::input::{Field, read_patch};
use crate::models::rules::Value;
use crate::worker::Worker;

/// The largest JSON of a resource, in bytes.
const LARGEST: usize = 112 << 10;

/// A resource with its `ETag`. The lease covers it.
pub fn resource(
    lease: Lease,
    status: StatusCode,
    value: &impl WriteJson,
    version: i64,
) -> Response {
    let mut response = json_within(lease, status, value);
    response.headers_mut().insert(ETAG, etag::of(version));
    response
}

/// A created resource, with its `Location`.
pub fn created(
    lease: Lease,
    path: &str,
    id: i64,
    value: &impl WriteJson,
    version: i64,
) -> Response {
    let mut response = resource(lease, StatusCode::CREATED, value, version);
    if let Ok(location) = HeaderValue::try_from(format!("{path}/{id}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// A requested resource: 304 if the client has this version.
pub fn found(lease: Lease, request: &Request, value: &impl WriteJson, version: i64) -> Response {
    if etag::none_match(request.headers(), version) {
        let mut response = empty(StatusCode::NOT_MODIFIED);
        response.headers_mut().insert(ETAG, etag::of(version));
        return response;
    }
    resource(lease, StatusCode::OK, value, version)
}

/// A resource that was read on the shared connection, with a lease for its response. A large one is
/// fetched again, whole, by `sql` with `key`. `large` is the index of the column that marks it.
pub async fn whole(
    worker: &Worker,
    user: AuthUser,
    found: Row,
    large: usize,
    sql: Sql,
    key: &[Parameter<'_>],
) -> Result<Option<(Row, Lease)>> {
    let large = is_large(&found, large)?;
    // Escaping may make six bytes of one.
    let most = if large { LARGEST } else { 6 * found.raw_size_bytes() };
    let lease = worker.allowance(user).lease(most).await?;
    if !large {
        return Ok(Some((found, lease)));
    }
    // Boxed, because it is rare and needs much space.
    let again = worker.lists.of(user.id());
    Ok(Box::pin(again.query_opt(sql, key)).await?.map(|row| (row, lease)))
}

/// A statement that changes a resource, and its form for a request with an `Idempotency-Key`.
#[derive(Clone, Copy)]
pub struct Write {
    pub plain: Sql,
    pub once: Sql,
}

/// The outcome of [`change`].
pub enum Changed {
    /// The row, whose resource begins at the second column, and a lease that covers it.
    Row(Row, Lease),
    /// The request has a key.
    Once(Response),
}

/// Changes the fields that were sent, if `If-Match` allows it. The plain statement takes the user,
/// the id, the patch and the accepted versions; its first column tells whether the user may.
pub async fn change<const N: usize>(
    worker: &Worker,
    user: AuthUser,
    id: i64,
    request: Request,
    sql: Write,
    fields: &'static [Field; N],
    missing: Error,
) -> Result<Changed> {
    let keyed = idempotency::read(&request)?;
    let versions = etag::accepted_versions(request.headers());
    let (body, lease) = body::read(request, body::LIMIT, &worker.allowance(user), LARGEST).await?;
    let patch = Json(read_patch(fields, &body)?);
    let parameters: [Parameter<'_>; 4] = [&user.id(), &id, &patch, &versions];
    let writes = worker.writes.of(user.id()).on_row(sql.plain, id);
    if let Some(keyed) = keyed {
        let key = keyed.with_body(&body);
        let answer = once::run(&writes, sql.once, &parameters, &key, missing).await?;
        return once::resource(lease, StatusCode::OK, &answer).map(Changed::Once);
    }
    let row = writes.query_opt(sql.plain, &parameters).await?.ok_or(missing)?;
    if !column::<bool>(&row, 0)? {
        return Err(Error::Forbidden);
    }
    let changed = column::<Option<i64>>(&row, 1)?.is_some();
    if changed { Ok(Changed::Row(row, lease)) } else { Err(Error::PreconditionFailed) }
}

/// Deletes a resource, if `If-Match` allows it. The plain statement takes the user, the id and the
/// accepted versions; its columns tell whether the user may, and whether it was done.
pub async fn remove(
    worker: &Worker,
    user: AuthUser,
    id: i64,
    request: Request,
    sql: Write,
    missing: Error,
) -> Result<Response> {
    let keyed = idempotency::read(&request)?;
    body::ignore(&request, body::LIMIT)?;
    let versions = etag::accepted_versions(request.headers());
    let parameters: [Parameter<'_>; 3] = [&user.id(), &id, &versions];
    let writes = worker.writes.of(user.id()).on_row(sql.plain, id);
    if let Some(keyed) = keyed {
        let key = keyed.with_body(&[]);
        let answer = once::run(&writes, sql.once, &parameters, &key, missing).await?;
        return Ok(once::deleted(&answer));
    }
    let row = writes.query_opt(sql.plain, &parameters).await?.ok_or(missing)?;
    if !column::<bool>(&row, 0)? {
        return Err(Error::Forbidden);
    }
    let done = column::<bool>(&row, 1)?;
    if done { Ok(empty(StatusCode::NO_CONTENT)) } else { Err(Error::PreconditionFailed) }
}

/// Runs an INSERT of one row.
pub async fn insert(
    worker: &Worker,
    sql: Sql,
    user: AuthUser,
    values: impl IntoIterator<Item = Value<'_>>,
) -> Result<Row> {
    db::insert(&worker.writes.of(user.id()), sql, &with_owner(user, values)).await
}

/// The parameters of an INSERT: the user, and then the fields in their order.
pub fn with_owner<'a>(
    user: AuthUser,
    values: impl IntoIterator<Item = Value<'a>>,
) -> Vec<Value<'a>> {
    [Value::Id(user.id())].into_iter().chain(values).collect()
}
