//! Whether the process and the database answer.

use bytes::Bytes;
use hyper::StatusCode;

use crate::app::Worker;
use crate::error::Result;
use crate::http::query::Query;
use crate::http::response::json_bytes;
use crate::http::{Request, Response};

const OK: Bytes = Bytes::from_static(br#"{"status":"ok"}"#);

/// The process answers.
pub fn live(request: &Request) -> Result<Response> {
    Query::none(request.uri().query())?;
    Ok(json_bytes(StatusCode::OK, OK))
}

/// The database answers too, and can be written.
pub async fn ready(worker: &Worker, request: Request) -> Result<Response> {
    Query::none(request.uri().query())?;
    worker.app.readiness.check().await?;
    Ok(json_bytes(StatusCode::OK, OK))
}
