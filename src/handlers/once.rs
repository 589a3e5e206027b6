//! Requests with an `Idempotency-Key`: they have their effect once, and get the same answer each
//! time.

use hyper::StatusCode;
use hyper::header::{ETAG, HeaderValue, LOCATION};

use super::resource::with_owner;
use crate::auth::AuthUser;
use crate::db::connection::Parameter;
use crate::db::{IdempotencyKey, KeptAnswer, Pool, Sql};
use crate::error::{Error, Result};
use crate::http::budget::Lease;
use crate::http::response::{empty, json_within};
use crate::http::{Response, etag, idempotency};
use crate::models::rules::Value;
use crate::worker::Worker;

/// Runs a statement whose first parameter is the user, and whose last two are the key and the hash
/// of the request. `missing` is the error if what it should change is not there.
///
/// The first request with the key may have ended between the statement's snapshot and its claim to
/// the key, and have changed what this one is refused for. So who is refused asks for its answer:
/// if the first one had an effect, a statement that begins now sees it.
pub async fn run(
    pool: &Pool,
    sql: Sql,
    parameters: &[Parameter<'_>],
    key: &IdempotencyKey,
    missing: Error,
) -> Result<KeptAnswer> {
    let key: [Parameter<'_>; 2] = [&key.key, &key.request_hash];
    let row = pool.query_opt(sql, &[parameters, &key].concat()).await?;
    let mut row = row.ok_or_else(|| Error::internal("a statement returned no verdict"))?;
    if KeptAnswer::is_refusal(&row)? {
        let key: Vec<Parameter<'_>> = parameters.iter().copied().take(1).chain(key).collect();
        let kept = pool.off_row().query_opt(Sql::IdempotencyKeysGet, &key).await?;
        row = kept.unwrap_or(row);
    }
    KeptAnswer::from_row(row, missing)
}

/// Runs an INSERT of one row.
pub async fn insert(
    worker: &Worker,
    sql: Sql,
    user: AuthUser,
    values: impl IntoIterator<Item = Value<'_>>,
    key: &IdempotencyKey,
) -> Result<KeptAnswer> {
    let values = with_owner(user, values);
    let parameters: Vec<Parameter<'_>> = values.iter().map(|value| value as _).collect();
    let missing = Error::internal("an INSERT misses something");
    run(&worker.writes.of(user.id()), sql, &parameters, key, missing).await
}

/// The resource, created or changed. The lease covers it.
pub fn resource(lease: Lease, status: StatusCode, answer: &KeptAnswer) -> Result<Response> {
    let mut response = json_within(lease, status, &answer.json()?);
    if let Some(version) = answer.version()? {
        response.headers_mut().insert(ETAG, etag::of(version));
    }
    Ok(marked(response, answer))
}

/// The same for a created resource, with its `Location`.
pub fn created(lease: Lease, path: &str, answer: &KeptAnswer) -> Result<Response> {
    let mut response = resource(lease, StatusCode::CREATED, answer)?;
    if let Ok(location) = HeaderValue::try_from(format!("{path}/{}", answer.id()?)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// The resource was deleted.
pub fn deleted(answer: &KeptAnswer) -> Response {
    marked(empty(StatusCode::NO_CONTENT), answer)
}

fn marked(mut response: Response, answer: &KeptAnswer) -> Response {
    if answer.replayed {
        idempotency::mark_replayed(&mut response);
    }
    response
}
