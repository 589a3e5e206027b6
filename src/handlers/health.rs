//! Whether the process and the database answer.

use hyper::StatusCode;

use crate::app::Worker;
use crate::error::Result;
use crate::http::query::Query;
use crate::http::response::json_bytes;
use crate::http::{Request, Response};

const OK: &[u8] = br#"{"status":"ok"}"#;

/// The process answers.
pub fn live(request: &Request) -> Result<Response> {
    Query::none(request.uri().query())?;
    Ok(json_bytes(StatusCode::OK, OK.to_vec()))
}

/// The database answers too.
pub async fn ready(worker: &Worker, request: &Request) -> Result<Response> {
    Query::none(request.uri().query())?;
    worker.pool.ping().await?;
    Ok(json_bytes(StatusCode::OK, OK.to_vec()))
}
