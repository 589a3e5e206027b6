//! The root of the API: name, version and links.

use bytes::Bytes;
use hyper::StatusCode;

use crate::http::Response;
use crate::http::response::json_bytes;
use crate::worker::Worker;

/// The index, with links to the documentation or without.
macro_rules! index {
    ($documentation:literal) => {
        Bytes::from_static(
            concat!(
                r#"{"name":""#,
                env!("CARGO_PKG_NAME"),
                r#"","version":""#,
                env!("CARGO_PKG_VERSION"),
                r#"","links":{"#,
                $documentation,
                r#""health":"/health/ready","register":"/api/auth/register","#,
                r#""login":"/api/auth/login","refresh":"/api/auth/refresh","#,
                r#""logout":"/api/auth/logout","me":"/api/auth/me","#,
                r#""password":"/api/auth/password","patients":"/api/patients","#,
                r#""doctors":"/api/doctors","mappings":"/api/mappings"}}"#
            )
            .as_bytes(),
        )
    };
}

const INDEX: Bytes = index!(r#""openapi":"/openapi.json","#);
const WITHOUT_DOCUMENTATION: Bytes = index!("");

pub fn index(worker: &Worker) -> Response {
    let docs = worker.app.config.docs;
    json_bytes(StatusCode::OK, if docs { INDEX } else { WITHOUT_DOCUMENTATION })
}
