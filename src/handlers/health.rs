//! Liveness and readiness.

use bytes::Bytes;
use hyper::StatusCode;

use crate::error::{Error, Result};
use crate::http::Response;
use crate::http::response::json_bytes;
use crate::worker::Worker;

const OK: Bytes = Bytes::from_static(br#"{"status":"ok"}"#);

/// The process responds.
pub fn live() -> Response {
    json_bytes(StatusCode::OK, OK)
}

/// The database answers and accepts writes, every worker has its connections to it, and the
/// instance is not stopping. `GET /health` is the same.
pub async fn ready(worker: &Worker) -> Result<Response> {
    if worker.app.is_stopping() {
        return Err(Error::Stopping);
    }
    worker.app.readiness.check().await?;
    Ok(json_bytes(StatusCode::OK, OK))
}
