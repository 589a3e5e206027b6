//! The root of the API: name, version and links.

use bytes::Bytes;
use hyper::StatusCode;

use crate::http::Response;
use crate::http::response::json_bytes;
use crate::worker::Worker;

/// The links of `$operations` come first.
macro_rules! index {
    ($operations:literal) => {
        Bytes::from_static(
            concat!(
                r#"{"name":""#,
                env!("CARGO_PKG_NAME"),
                r#"","version":""#,
                env!("CARGO_PKG_VERSION"),
                r#"","links":{"#,
                $operations,
                r#""register":"/api/auth/register","login":"/api/auth/login","#,
                r#""refresh":"/api/auth/refresh","logout":"/api/auth/logout","me":"/api/auth/me","#,
                r#""password":"/api/auth/password","patients":"/api/patients","#,
                r#""export":"/api/patients/export","import":"/api/patients/import","#,
                r#""doctors":"/api/doctors","mappings":"/api/mappings"}}"#
            )
            .as_bytes(),
        )
    };
}

const INDEX: Bytes = index!(r#""health":"/health/ready","metrics":"/metrics","#);
/// Where the others are on an address of their own.
const INDEX_WITHOUT_OPERATIONS: Bytes = index!("");

pub fn index(worker: &Worker) -> Response {
    let separate = worker.app.config.metrics_addr.is_some();
    json_bytes(StatusCode::OK, if separate { INDEX_WITHOUT_OPERATIONS } else { INDEX })
}
