//! Whether the process and the database answer.

use bytes::Bytes;
use hyper::StatusCode;

use crate::error::{Error, Result};
use crate::http::Response;
use crate::http::response::json_bytes;
use crate::worker::Worker;

const OK: Bytes = Bytes::from_static(br#"{"status":"ok"}"#);

/// The process answers.
pub fn live() -> Response {
    json_bytes(StatusCode::OK, OK)
}

/// The database answers too and can be written, and the instance is not about to stop. `GET /health` is
/// the same.
pub async fn ready(worker: &Worker) -> Result<Response> {
    if worker.app.is_stopping() {
        return Err(Error::Stopping);
    }
    worker.app.readiness.check().await?;
    Ok(json_bytes(StatusCode::OK, OK))
}
